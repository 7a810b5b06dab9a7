"""From texts and tokens to items: encoders, index, grounding, trie."""
