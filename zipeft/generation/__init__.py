"""Answers that a language model writes: how they are made, and files of questions and answers."""
