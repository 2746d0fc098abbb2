package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"reflinksr/internal/repository"

	"github.com/spf13/cobra"
)

// rangesPrinted bounds what is printed: there may be a million.
const rangesPrinted = 16

func (s *session) changed() *cobra.Command {
	return s.takes(s.answersJSON(command("changed SR A B", "tell where a volume may differ from another",
		`changed tells where the volume B may differ from the volume A, which is where the two
do not share blocks: offset and length of each range, and a map of the disk, a
character for each slice: . nothing, - less than half, + half or more, # all of it.`,
		`  srctl changed /srv/tank $SNAPSHOT $KEY
  srctl changed --json /srv/tank $SNAPSHOT $KEY | jq .bytes`, 3, 3, s.tellChanges)), anSR, aVolume, aVolume)
}

func (s *session) tellChanges(ctx context.Context, args []string) error {
	out := s.out
	a, b, err := s.volumesAt(ctx, args[0], args[1], args[2])
	if err != nil {
		return err
	}
	stop := busy("comparing")
	c, err := a.ChangesTo(ctx, b.Key)
	stop()
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(out, struct {
			repository.Changes
			Path string `json:"path"` // of the file with the data of B
		}{c, filepath.Join(s.path, string(b.Key))})
	}
	if !c.Related {
		fmt.Fprintln(out, "the two do not come from one volume: this is what is not empty in the second")
	}
	for i, r := range c.Ranges {
		if i == rangesPrinted {
			fmt.Fprintf(out, "and %d more ranges: --json lists them all\n", len(c.Ranges)-i)
			break
		}
		fmt.Fprintf(out, "%15d %12s\n", r[0], s.bytes(r[1]))
	}
	_, err = fmt.Fprintf(out, "%d ranges, %s of %s\n%s\n", len(c.Ranges), s.bytes(c.Bytes), s.bytes(c.Size), mapOf(c.Ranges, c.Size, widthOf(out)))
	return err
}

// widthOf is how many characters a map has.
func widthOf(out io.Writer) int {
	if width := terminalWidth(out); width > 0 {
		return width
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
