"""The watch over a candidate that is rolled out beside the live version, which rolls it back when it is worse."""
