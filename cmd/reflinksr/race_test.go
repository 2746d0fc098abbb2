//go:build race

package main

// raced says that the plugin under test is built with the race detector.
const raced = true
