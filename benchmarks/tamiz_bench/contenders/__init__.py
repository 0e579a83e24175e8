"""What Tamiz is compared with: code written as the documentation of its library shows it."""
