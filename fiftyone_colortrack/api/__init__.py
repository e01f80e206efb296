"""The workflows behind Python, the command line, and the App: FiftyOne in, FiftyOne out.

Importing this package does not import torch.
"""
