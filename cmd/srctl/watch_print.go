package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"reflinksr/internal/repository"
)

// print prints all that is known, in so many columns of a terminal; 0: in as many as it takes.
func (w *watching) print(out io.Writer, width int) error {
	fit := func(line string) string {
		if width > 0 {
			return cut(line, width)
		}
		return line
	}
	if len(w.watched) == 0 {
		_, err := fmt.Fprintln(out, fit("no SR is attached on this host"))
		return err
	}
	for i, sr := range w.watched {
		if i > 0 {
			if _, err := fmt.Fprintln(out); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(out, fit(w.headline(sr))); err != nil {
			return err
		}
		if sr.Warning != "" && !sr.Gone {
			if err := indented(out, printable(sr.Warning), 4, width); err != nil {
				return err
			}
		}
		t, err := w.table(sr)
		if err != nil {
			return err
		}
		t.spare(width)
		if err := t.print(out, width); err != nil {
			return err
		}
	}
	return nil
}

// headline is what is said of an SR, what presses first.
func (w *watching) headline(sr watchedSR) string {
	line := ""
	switch {
	case sr.Gone:
		return "gone: " + oneLine(sr.Path)
	case sr.Health != repository.Healthy:
		return sr.Health + ": " + oneLine(sr.Path)
	case sr.Shortage != "":
		line = sr.Shortage + ": "
	}
	line += fmt.Sprintf("%s of %s free  %s", w.s.bytes(sr.Free), w.s.bytes(sr.Total), oneLine(sr.Path))
	if sr.Name != "" {
		line += "  " + oneLine(sr.Name)
	}
	return line
}

// spare leaves out columns until a line fits.
func (t *table) spare(width int) {
	if width <= 0 {
		return
	}
	t.shortenKeys()
	for _, title := range dispensable {
		total := -2
		for i, c := range t.columns {
			widest := columnsOf(c.title)
			for _, r := range t.rows {
				widest = max(widest, columnsOf(r.cells[i].shown))
			}
			if c.cut == textsEnd {
				widest = min(widest, max(leastText, columnsOf(c.title)))
			}
			total += widest + 2
		}
		if total <= width {
			return
		}
		t.without(title)
	}
}

// without leaves out a column.
func (t *table) without(title string) {
	i := slices.IndexFunc(t.columns, func(c column) bool { return c.title == title })
	if i < 0 {
		return
	}
	t.columns = slices.Delete(slices.Clone(t.columns), i, i+1)
	for r := range t.rows {
		t.rows[r].cells = slices.Delete(t.rows[r].cells, i, i+1)
	}
}

// forPrograms is a look, for programs.
func (w *watching) forPrograms() any {
	srs := []watchedSR{}
	for _, sr := range w.watched {
		chosen := sr
		chosen.Disks = []watchedDisk{}
		if t, err := w.table(sr); err == nil {
			chosen.Disks = values[watchedDisk](t)
		}
		srs = append(srs, chosen)
	}
	return struct {
		Time     time.Time   `json:"time"`
		Interval float64     `json:"interval_seconds"`
		SRs      []watchedSR `json:"srs"`
	}{w.at, w.passed.Seconds(), srs}
}

// table has the disks of an SR as rows.
func (w *watching) table(sr watchedSR) (*table, error) {
	t := &table{columns: watchColumns}
	for _, d := range sr.Disks {
		domains := strings.Join(d.Domains, ",")
		cells := []cell{text(string(d.Key)), text(d.Name), text(domains), w.s.size(d.Size), w.s.size(d.Allocated), w.rate(d.Growth), w.rate(d.ReadBytes), w.rate(d.WriteBytes), notKnown, notKnown, notKnown, notKnown}
		if d.Gone {
			cells[2] = cell{raw: "gone", shown: "gone"}
		}
		if d.Reads != nil {
			cells[8] = cell{number: int64(*d.Reads + *d.Writes), shown: fmt.Sprintf("%.0f", *d.Reads+*d.Writes)}
			if *d.Reads+*d.Writes > 0 {
				cells[9] = cell{number: int64(d.latency), shown: shortTime(d.latency)}
			}
		}
		if d.Extents != nil {
			cells[10] = cell{number: int64(*d.Extents), shown: fmt.Sprint(*d.Extents)}
		}
		if d.Stall != nil {
			stall := time.Duration(*d.Stall) * time.Millisecond
			cells[11] = cell{number: int64(stall), shown: shortTime(stall)}
			if stall == 0 { // it is known to the millisecond
				cells[11].shown = "<1 ms"
			}
		}
		for i := range cells {
			if watchColumns[i].numbers {
				cells[i].raw = fmt.Sprint(cells[i].number)
			}
		}
		t.rows = append(t.rows, row{value: d, cells: cells})
	}
	return t, t.choose(w.s.sort, w.s.filters)
}

// notKnown is a cell of which nothing is known.
var notKnown = cell{number: -1, shown: "-"}

func (w *watching) rate(perSecond *float64) cell {
	if perSecond == nil {
		return notKnown
	}
	if n := int64(*perSecond); n >= 0 {
		return w.s.size(n)
	}
	shrinks := w.s.size(int64(-*perSecond))
	return cell{number: int64(*perSecond), shown: "-" + shrinks.shown}
}

// shortTime is a time in a few characters.
func shortTime(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond && d%time.Millisecond != 0:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
