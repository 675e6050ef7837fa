"""DeepSeek-VL2-Tiny (arXiv 2412.10302), the paper's describer, on transformers' own networks.

The hub's files are read as they are: config.json, processor_config.json, the tokenizer, and the
released names of weights. A SigLIP tower encodes a global view and up to nine tiles of 384 px, a
projector turns 2 x 2 of its patches into one token, and a mixture of experts answers.
"""
