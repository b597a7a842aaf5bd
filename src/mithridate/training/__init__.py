"""LoRA fine-tuning on top of transformers.Trainer and accelerate."""
