"""Public benchmarks of vision-language models, without training on them: what is asked, and how answers are scored."""
