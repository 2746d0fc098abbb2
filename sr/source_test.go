package sr
