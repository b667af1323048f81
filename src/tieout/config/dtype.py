"""The names of precisions, apart from torch, for options."""

from typing import Literal

Dtype = Literal["auto", "fp32", "bf16"]
"""auto: bf16 on CUDA, and on a processor with native bf16 for a base of 30 million parameters and more; else fp32."""
