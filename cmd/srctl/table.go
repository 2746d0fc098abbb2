package main

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// table is rows for people, and what each of them is for programs. On a terminal it has no more columns than that.
type table struct {
	columns []column
	rows    []row
}

// column is one of a table's.
type column struct {
	title   string
	numbers bool
	cut     cutting
}

// cutting is what can be left out of a column where the terminal is too narrow.
type cutting int

const (
	nothing  cutting = iota
	keysEnd          // of keys, what comes after a beginning that no other has
	textsEnd         // of names, the end
)

// row is one of a table's.
type row struct {
	cells []cell
	below string // what is said of it in the lines below
	value any    // what it is for programs
}

// cell is what stands in a row: a number as people write it, or a text.
type cell struct {
	raw    string
	number int64
	shown  string
}

func text(s string) cell { return cell{raw: s, shown: oneLine(s)} }

// size is a cell with a size in bytes.
func (s *session) size(n int64) cell { return cell{raw: fmt.Sprint(n), number: n, shown: s.bytes(n)} }

// narrowed gives a command the flags for choosing rows.
func (s *session) narrowed(c *cobra.Command, columns []column) *cobra.Command {
	var names []string
	for _, col := range columns {
		names = append(names, col.name())
	}
	c.Flags().StringVar(&s.sort, "sort", "", "sort by a `COLUMN`, -COLUMN: the other way round; the columns are "+strings.Join(names, ", "))
	c.Flags().StringArrayVar(&s.filters, "filter", nil, "only rows whose column is like `COLUMN=PATTERN` (* and ? stand for anything); several have to be true")
	for _, flag := range []string{"sort", "filter"} {
		var offered []string
		for _, name := range names {
			offered = append(offered, name+map[string]string{"filter": "="}[flag])
		}
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(offered, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)) // #nosec G104 -- it fails for a flag that is not there
	}
	return c
}

// name is what a column is called in a flag.
func (c column) name() string { return strings.ReplaceAll(strings.ToLower(c.title), " ", "-") }

func find(columns []column, name string) (int, error) {
	i := slices.IndexFunc(columns, func(c column) bool { return c.name() == name })
	if i < 0 {
		var names []string
		for _, c := range columns {
			names = append(names, c.name())
		}
		return 0, misused("there is no column %q, but %s", name, strings.Join(names, ", "))
	}
	return i, nil
}

// choose leaves the rows that are wanted, in the order that is wanted.
func (t *table) choose(sort string, filters []string) error {
	for _, f := range filters {
		name, pattern, ok := strings.Cut(f, "=")
		if _, err := path.Match(pattern, ""); err != nil || !ok {
			return misused("--filter %q is not COLUMN=PATTERN", f)
		}
		i, err := find(t.columns, name)
		if err != nil {
			return err
		}
		t.rows = slices.DeleteFunc(t.rows, func(r row) bool {
			// A slash is a character like any other.
			is, _ := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(r.cells[i].raw, "/", "\x00"))
			return !is
		})
	}
	if sort == "" {
		return nil
	}
	name, reversed := strings.CutPrefix(sort, "-")
	i, err := find(t.columns, name)
	if err != nil {
		return err
	}
	slices.SortStableFunc(t.rows, func(a, b row) int {
		order := cmp.Compare(a.cells[i].raw, b.cells[i].raw)
		if t.columns[i].numbers {
			order = cmp.Compare(a.cells[i].number, b.cells[i].number)
		}
		if reversed {
			return -order
		}
		return order
	})
	return nil
}

// values are the rows for programs.
func values[T any](t *table) []T {
	all := []T{}
	for _, r := range t.rows {
		all = append(all, r.value.(T))
	}
	return all
}

// print prints the table, in so many columns of a terminal; 0: in as many as it takes.
func (t *table) print(out io.Writer, width int) error {
	widths := make([]int, len(t.columns))
	measure := func() (total int) {
		for i, c := range t.columns {
			widths[i] = columnsOf(c.title)
			for _, r := range t.rows {
				widths[i] = max(widths[i], columnsOf(r.cells[i].shown))
			}
			total += widths[i] + 2
		}
		return total - 2
	}
	if over := measure() - width; width > 0 && over > 0 {
		t.shortenKeys()
		over = measure() - width
		for i, c := range slices.Backward(t.columns) {
			if c.cut == textsEnd && over > 0 {
				narrower := max(widths[i]-over, leastText)
				over -= widths[i] - min(narrower, widths[i])
				for _, r := range t.rows {
					r.cells[i].shown = cut(r.cells[i].shown, narrower)
				}
			}
		}
		measure()
	}
	line := func(texts func(i int) string) error {
		var b strings.Builder
		for i, c := range t.columns {
			text := texts(i)
			space := strings.Repeat(" ", widths[i]-columnsOf(text))
			switch {
			case c.numbers:
				text = space + text
			case i < len(t.columns)-1:
				text += space
			}
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(text)
		}
		all := b.String()
		if width > 0 {
			all = cut(all, width)
		}
		_, err := fmt.Fprintln(out, strings.TrimRight(all, " "))
		return err
	}
	err := line(func(i int) string { return t.columns[i].title })
	for _, r := range t.rows {
		if err == nil {
			err = line(func(i int) string { return r.cells[i].shown })
		}
		if err == nil && r.below != "" {
			err = indented(out, r.below, 4, width)
		}
	}
	return err
}

// leastText is how many columns of a terminal a text keeps.
const leastText = 8

// shortenKeys leaves so much of keys that none begins like another.
func (t *table) shortenKeys() {
	for i, c := range t.columns {
		if c.cut != keysEnd {
			continue
		}
		var keys []string
		for _, r := range t.rows {
			keys = append(keys, r.cells[i].raw)
		}
		n := beginning(keys)
		for _, r := range t.rows {
			r.cells[i].shown = oneLine(r.cells[i].raw[:min(n, len(r.cells[i].raw))])
		}
	}
}

// beginning is how much of keys, in whole groups of theirs, tells them apart.
func beginning(keys []string) int {
	for _, n := range []int{8, 13, 18, 23} {
		beginnings := map[string]bool{}
		for _, key := range keys {
			beginnings[key[:min(n, len(key))]] = true
		}
		if len(beginnings) == len(keys) {
			return n
		}
	}
	return 36
}

// columnsOf is how many columns of a terminal a text has.
func columnsOf(text string) (n int) {
	for _, r := range text {
		n += widthOfRune(r)
	}
	return n
}

// widthOfRune is 2 for what is written in squares (East Asian scripts, most pictures), 0 for what is set above another.
func widthOfRune(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana, unicode.Yi), r >= 0x3000 && r <= 0x303e, r >= 0xff00 && r <= 0xff60, r >= 0x1f300 && r <= 0x1faff:
		return 2
	}
	return 1
}

// cut leaves of a text what fits in so many columns.
func cut(text string, width int) string {
	if columnsOf(text) <= width {
		return text
	}
	if width < 1 {
		return ""
	}
	used := 1 // for what says that it was cut
	for i, r := range text {
		if used += widthOfRune(r); used > width {
			return text[:i] + "…"
		}
	}
	return text
}

// indented prints a text after so many spaces, in lines of a terminal; of width 0 in one.
func indented(out io.Writer, text string, indent, width int) error {
	lead := strings.Repeat(" ", indent)
	for _, line := range wrapped(text, width-indent) {
		if _, err := fmt.Fprintln(out, lead+line); err != nil {
			return err
		}
	}
	return nil
}

// wrapped parts a text into lines at its spaces; in one if there is no room worth that.
func wrapped(text string, width int) (lines []string) {
	if width < 20 {
		return []string{text}
	}
	line := ""
	for _, word := range strings.Split(text, " ") {
		if line != "" && columnsOf(line)+1+columnsOf(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// properties prints what things are, one below another.
type properties struct {
	names, values []string
}

func (p *properties) add(name string, value any) {
	p.names, p.values = append(p.names, name), append(p.values, fmt.Sprint(value))
}

func (p *properties) print(out io.Writer, width int) error {
	longest := 0
	for _, name := range p.names {
		longest = max(longest, columnsOf(name))
	}
	for i, name := range p.names {
		lead := name + strings.Repeat(" ", longest-columnsOf(name)+2)
		for _, line := range wrapped(p.values[i], width-longest-2) {
			if _, err := fmt.Fprintln(out, strings.TrimRight(lead+line, " ")); err != nil {
				return err
			}
			lead = strings.Repeat(" ", longest+2)
		}
	}
	return nil
}
