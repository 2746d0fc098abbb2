package track

import (
	"fmt"
	"strings"
)

// Lost is ErrLost if there was no room for an event since Open, or if somebody else has switched
// events off. Who does so and switches them on again is not noticed.
func (t *Trace) Lost() error {
	for _, setting := range t.settings {
		now, err := readAt(t.dir, setting[0])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		if !isSet(now, setting[1]) {
			return fmt.Errorf("%w: somebody has changed %s to %.80q", ErrLost, setting[0], now)
		}
	}
	processors, err := names(t.dir, "per_cpu")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	for _, name := range processors {
		stats, err := readAt(t.dir, "per_cpu/"+name+"/stats")
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		if lost(stats) {
			return ErrLost
		}
	}
	return nil
}

// isSet says whether a file of tracefs tells of a setting: alone, or of a choice as the one in brackets.
func isSet(text, value string) bool {
	text = strings.TrimSpace(text)
	return text == value || strings.Contains(" "+text+" ", " ["+value+"] ")
}

// lost says whether a processor's statistics tell of events that are not in its buffer. What they do
// not tell is not known.
func lost(stats string) bool {
	seen := 0
	for line := range strings.Lines(stats) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "overrun", "commit overrun", "dropped events":
			if strings.TrimSpace(value) != "0" {
				return true
			}
			seen++
		}
	}
	return seen != 3
}
