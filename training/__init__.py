"""Fine-tuning: recipes, backbones, examples, trainers."""
