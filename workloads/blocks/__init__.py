"""Building blocks that several workloads share. Modules here import torch; the package itself does not."""
