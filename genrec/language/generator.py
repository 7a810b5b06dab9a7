"""Free generation: the model writes any text, by `transformers`' own `generate`; grounding finds the items.

Beams, sampling and diverse beams are one function. Some checkpoints switch sampling on by default, so it is set
explicitly each time. Prompts of a batch are padded on the left; otherwise the model would continue the padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Method = Literal["beams", "sampling", "diverse"]
"""Beam search; independent samples at temperature 1; or beams drawn without replacement in proportion to their
probability, which are all different and spread wider than the best ones (`transformers`' beam-search sampling)."""


@dataclass(slots=True)
class FreeGenerator:
    """Writes texts with one model.

    Attributes:
        model: a `transformers` model; the decoder's own will do: its restricted head is put aside during generation.
        tokenizer: its tokenizer.
        stop: the token that ends a text.
        head: the model's output head over its whole vocabulary.
        max_new_tokens: the most tokens of a text.
        ending: the characters that end a title within a text; empty if only `stop` does.
    """

    model: Any
    tokenizer: Any
    stop: int
    head: Any
    max_new_tokens: int = 32
    ending: str = ""

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], count: int, method: Method = "beams", seed: int = 0
    ) -> list[list[Generation]]:
        """Write several texts for each prompt.

        Args:
            prompts: token ids.
            count: texts for each prompt: the number of beams or of samples.
            method: see `Method`.
            seed: the seed of the samples.

        Returns:
            For each prompt its texts, best first; under sampling, a text may occur twice.
        """
        if method != "beams":
            torch.manual_seed(seed)
        ids, mask = self._padded(prompts)
        output = self._generate(
            input_ids=ids,
            attention_mask=mask,
            num_beams=1 if method == "sampling" else count,
            num_return_sequences=count,
            do_sample=method != "beams",
            **({} if method == "beams" else {"top_k": 0}),
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.stop,
            pad_token_id=self.stop,
            length_penalty=0.0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        tokens = output.sequences[:, self._start(ids) :]
        if method != "sampling" and count > 1:
            scores = output.sequences_scores
        else:  # one beam is no beam search to transformers
            gains = self.model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
            scores = gains.masked_fill(torch.isinf(gains), 0.0).sum(dim=1)
        texts = [self._text(row) for row in tokens.tolist()]
        generations = [Generation(text, float(score)) for text, score in zip(texts, scores, strict=True)]
        grouped = [generations[start : start + count] for start in range(0, len(generations), count)]
        return [sorted(group, key=lambda generation: -generation.score) for group in grouped]

    @torch.inference_mode()
    def write(
        self,
        prompts: Sequence[Sequence[int]],
        stops: Sequence[int],
        max_new_tokens: int,
        constrain: Callable[[int], Any],
    ) -> list[list[int]]:
        """Write one text for each prompt by greedy decoding under a constraint.

        Args:
            prompts: token ids.
            stops: the tokens that end a text.
            max_new_tokens: the most tokens of a text.
            constrain: makes `transformers`' logits processor, given the position at which new tokens begin.

        Returns:
            The new tokens of each text, without the token that ends it.
        """
        ids, mask = self._padded(prompts)
        start = self._start(ids)
        output = self._generate(
            input_ids=ids,
            attention_mask=mask,
            num_beams=1,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(stops),
            pad_token_id=stops[0],
            logits_processor=[constrain(start)],
        )
        rows = output[:, start:].tolist()
        return [list(itertools.takewhile(lambda token: token not in stops, row)) for row in rows]

    @torch.inference_mode()
    def surprise(self, prompt: Sequence[int], text: Sequence[int]) -> float:
        """Return the mean negative log-likelihood of a text's tokens after a prompt, in nats.

        Args:
            prompt: token ids.
            text: token ids, at least one.
        """
        device = next(self.model.parameters()).device
        restricted = self.model.get_output_embeddings()
        self.model.set_output_embeddings(self.head)
        try:
            if self.model.config.is_encoder_decoder:
                ids, labels = torch.tensor([list(prompt)], device=device), torch.tensor([list(text)], device=device)
                return float(self.model(input_ids=ids, labels=labels).loss)
            ids = torch.tensor([[*prompt, *text]], device=device)
            logits = self.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            chosen = logits.float().log_softmax(dim=-1).gather(1, ids[0, len(prompt) :, None])
            return float(-chosen.mean())
        finally:
            self.model.set_output_embeddings(restricted)

    def _padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return the ids and the mask of a batch of prompts, on the model's device."""
        device = next(self.model.parameters()).device
        width = max(map(len, prompts))
        ids = torch.zeros((len(prompts), width), dtype=torch.long, device=device)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            seq2seq = self.model.config.is_encoder_decoder
            place = slice(0, len(prompt)) if seq2seq else slice(width - len(prompt), width)
            ids[row, place] = torch.tensor(prompt, device=device)
            mask[row, place] = 1
        return ids, mask

    def _start(self, ids: Tensor) -> int:
        """Return the position in the output at which the new tokens begin."""
        return 1 if self.model.config.is_encoder_decoder else ids.shape[1]

    def _generate(self, **options: Any) -> Any:
        """Call the model's `generate` with its head over the whole vocabulary, and restore the previous head."""
        restricted = self.model.get_output_embeddings()
        self.model.set_output_embeddings(self.head)
        try:
            return self.model.generate(**options)
        finally:
            self.model.set_output_embeddings(restricted)

    def _text(self, tokens: list[int]) -> str:
        end = tokens.index(self.stop) if self.stop in tokens else len(tokens)
        text = str(self.tokenizer.decode(tokens[:end], skip_special_tokens=True))
        return (text.partition(self.ending)[0] if self.ending else text).strip()


@dataclass(frozen=True, slots=True)
class Generation:
    """One text that the language model wrote, with its summed log-probability."""

    text: str
    score: float
