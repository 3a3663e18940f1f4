"""TRL's trainers as aligners of mint."""
