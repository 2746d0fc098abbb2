package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"reflinksr/internal/units"
)

// rangesPrinted bounds what is printed: there may be a million.
const rangesPrinted = 16

func changed(ctx context.Context, args []string, out io.Writer) error {
	var asJSON bool
	args, err := parse("changed", args, 3, 3, func(f *flag.FlagSet) { f.BoolVar(&asJSON, "json", false, "") })
	if err != nil {
		return err
	}
	a, b, err := volumesAt(ctx, args[0], args[1], args[2])
	if err != nil {
		return err
	}
	c, err := a.ChangesTo(ctx, b.Key)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, c)
	}
	if !c.Related {
		fmt.Fprintln(out, "the two do not come from one volume: this is what is not empty in the second")
	}
	for i, r := range c.Ranges {
		if i == rangesPrinted {
			fmt.Fprintf(out, "and %d more ranges: -json lists them all\n", len(c.Ranges)-i)
			break
		}
		fmt.Fprintf(out, "%15d %12s\n", r[0], units.Bytes(r[1]))
	}
	_, err = fmt.Fprintf(out, "%d ranges, %s of %s\n%s\n", len(c.Ranges), units.Bytes(c.Bytes), units.Bytes(c.Size), mapOf(c.Ranges, c.Size, widthOf(out)))
	return err
}

// widthOf is how many characters a line of the terminal has.
func widthOf(out io.Writer) int {
	if f, ok := bare(out).(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 64
}

// mapOf draws a disk, a character for each slice of it: "." nothing of it is in a
// range, "-" less than half, "+" half or more, "#" all of it.
func mapOf(ranges [][2]int64, size int64, width int) string {
	slice := max(1, (size+int64(width)-1)/int64(width))
	line := make([]byte, 0, width)
	for start := int64(0); start < size; start += slice {
		end, covered := min(start+slice, size), int64(0)
		for len(ranges) > 0 && ranges[0][0] < end {
			last := ranges[0][0] + ranges[0][1]
			covered += min(last, end) - max(ranges[0][0], start)
			if last > end {
				break
			}
			ranges = ranges[1:]
		}
		switch {
		case covered == 0:
			line = append(line, '.')
		case covered == end-start:
			line = append(line, '#')
		case covered < (end-start+1)/2:
			line = append(line, '-')
		default:
			line = append(line, '+')
		}
	}
	return string(line)
}
