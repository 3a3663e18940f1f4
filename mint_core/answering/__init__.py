"""From a prompt to an answer: engines, decoding, and answers for new samples."""
