// Command srnbd serves a disk of an SR by NBD; package srnbd says when.
package main

import (
	"os"

	"reflinksr/cmd/internal/srnbd"
)

func main() { os.Exit(srnbd.Main()) }
