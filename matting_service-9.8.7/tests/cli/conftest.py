import torch

# On busy cores two threads that wait for each other take 20 times as long as one.
torch.set_num_threads(1)
