"""An OpenAI-compatible server without a model: text known in advance at a set pace, and lies on demand."""
