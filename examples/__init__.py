"""Examples: small applications that show Mizzen at work, each run by a test."""
