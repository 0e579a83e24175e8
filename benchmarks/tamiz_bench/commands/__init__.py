"""The commands of ``tamiz bench``, one module each."""
