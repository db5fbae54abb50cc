"""photonic: a photonic accelerator behind a PyTorch network."""
