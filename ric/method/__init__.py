"""The paper: Eqs. 1 to 16 of "Region in Context" (arXiv 2510.16772), one file for each idea.

Imports torch, the libraries its models come from (transformers, diffusers, safetensors), and of
`ric` only `errors`, `model_files` and `pretrained`, so that the method can be read, tested and
reused apart from the commands.
"""
