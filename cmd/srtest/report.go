package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"reflinksr/cmd/internal/pool"
	"reflinksr/internal/smapi"
	"reflinksr/scripts"
)

// cell is what one call of one plugin came to in all scenarios.
type cell struct {
	Works, Refuses int              // times, in scenarios that passed
	Contents       bool             // it works only if contents were seen to be right
	Seen           bool             // they were, in a scenario that passed
	Absent         bool             // it is not offered
	Wrong          []scripts.Result // the scenarios that failed at it
}

// Tested says that a scenario that passed has shown that the call works.
func (c cell) Tested() bool { return c.Works > 0 && (c.Seen || !c.Contents) }

// Offered says that nothing speaks against it.
func (c cell) Offered() bool { return !c.Absent || c.Works+c.Refuses > 0 }

// String is the cell in a line of text.
func (c cell) String() string {
	counts := fmt.Sprintf("%d / %d", c.Works, c.Refuses)
	switch {
	case len(c.Wrong) > 0:
		return fmt.Sprintf("WRONG %d (%s)", len(c.Wrong), counts)
	case !c.Offered():
		return "not offered"
	case !c.Tested() && c.Refuses == 0:
		return "not tested"
	case !c.Tested():
		return fmt.Sprintf("not tested / %d", c.Refuses)
	}
	return counts
}

// Class is the cell's colour on the page.
func (c cell) Class() string {
	switch {
	case len(c.Wrong) > 0:
		return "wrong"
	case !c.Tested():
		return "none"
	}
	return "works"
}

// column is one plugin.
type column struct {
	Title, Directory string
	Cells            map[string]*cell // by the call's name
	Sum              tally
	Passed, Failed   int
	Skips            []skip
}

type skip struct {
	Why   string
	Names []string
}

// add counts what a scenario showed: if it passed, what each call came to; if it failed,
// that counts against the call that it failed at. One that was skipped has shown nothing.
func (c *column) add(r scripts.Result) {
	c.Sum.add(r)
	for _, made := range r.Calls {
		of := c.of(made.Method)
		switch {
		case made.Outcome == scripts.NotOffered:
			of.Absent = true
		case r.Verdict != scripts.Passed:
		case made.Outcome == scripts.Works:
			of.Works++
		case made.Outcome == scripts.Refuses:
			of.Refuses++
		}
	}
	if r.Verdict == scripts.Passed {
		for _, method := range r.Proved {
			c.of(method).Seen = true
		}
	}
	if r.Verdict == scripts.Failed {
		blamed := ""
		if r.Failure != nil {
			blamed = r.Failure.Blamed
		}
		of := c.of(cmp.Or(blamed, "(no call)"))
		of.Wrong = append(of.Wrong, r)
	}
}

// of finds a call's cell. The toolstack does not tell cases of letters apart.
func (c *column) of(method string) *cell {
	if known := smapi.Find(method); known != nil {
		method = known.Call()
	}
	if c.Cells[method] == nil {
		c.Cells[method] = &cell{Contents: scripts.AboutContents(method)}
	}
	return c.Cells[method]
}

// finish settles what only the whole run tells.
func (c *column) finish(p target) {
	config := p.config()
	for _, method := range smapi.Names() {
		if of := c.of(method); of.Works+of.Refuses == 0 && !config.Offers(method) {
			of.Absent = true
		}
	}
	c.Passed, c.Failed = c.Sum.passed, c.Sum.failed
	for why, names := range c.Sum.why {
		slices.Sort(names)
		c.Skips = append(c.Skips, skip{why, names})
	}
	slices.SortFunc(c.Skips, func(a, b skip) int { return cmp.Compare(a.Why, b.Why) })
	for _, of := range c.Cells {
		slices.SortFunc(of.Wrong, func(a, b scripts.Result) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.FS, b.FS))
		})
	}
}

// titles are the names of plugins' directories, or, for those of the same name, what
// their paths do not share.
func titles(plugins []target) []string {
	names := make([]string, len(plugins))
	alike := map[string][]int{}
	for i, p := range plugins {
		names[i] = filepath.Base(p.volume)
		alike[names[i]] = append(alike[names[i]], i)
	}
	for _, group := range alike {
		if len(group) == 1 {
			continue
		}
		split := make([][]string, len(group))
		for n, i := range group {
			split[n] = strings.Split(strings.Trim(plugins[i].volume, "/"), "/")
		}
		same := func(at func(parts []string) string) bool {
			return !slices.ContainsFunc(split, func(parts []string) bool { return len(parts) < 2 || at(parts) != at(split[0]) })
		}
		for same(func(parts []string) string { return parts[0] }) {
			for n := range split {
				split[n] = split[n][1:]
			}
		}
		for same(func(parts []string) string { return parts[len(parts)-1] }) {
			for n := range split {
				split[n] = split[n][:len(split[n])-1]
			}
		}
		for n, i := range group {
			names[i] = strings.Join(split[n], "/")
		}
	}
	return names
}

// matrix is a whole report.
type matrix struct {
	Made    time.Time
	Rows    []string // calls, in the interface's order
	Columns []*column
}

func (m *matrix) Cell(row string, c *column) cell {
	if of := c.Cells[row]; of != nil {
		return *of
	}
	return cell{}
}

// Failures lists a column's failed scenarios, by call.
func (m *matrix) Failures(c *column) (all []scripts.Result) {
	for _, row := range m.Rows {
		all = append(all, m.Cell(row, c).Wrong...)
	}
	return all
}

// report is srtest report.
func (o *options) report() error {
	ctx, over := pool.Interruptible()
	defer over()
	plugins, err := o.plugins()
	if err != nil {
		return err
	}
	m := &matrix{Made: time.Now()}
	progress := newProgress(o.errs)
	var sum tally
	for i, p := range plugins {
		c := &column{Title: titles(plugins)[i], Directory: p.volume, Cells: map[string]*cell{}}
		err := o.try(ctx, p, func(r scripts.Result) {
			sum.add(r)
			progress.show(sum, o.total, r)
			c.add(r)
		})
		progress.clear()
		if err != nil {
			return err
		}
		c.finish(p)
		m.Columns = append(m.Columns, c)
	}
	m.rows()
	m.print(o.out)
	if o.html != "" {
		err = m.write(o.html)
	}
	if sum.failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d scenarios failed", sum.failed))
	}
	return err
}

func (m *matrix) rows() {
	m.Rows = smapi.Names()
	for _, c := range m.Columns {
		for name := range c.Cells {
			if !slices.Contains(m.Rows, name) {
				m.Rows = append(m.Rows, name)
			}
		}
	}
}

// print writes the matrix as text: for one plugin with a column for each outcome,
// for several with one for each plugin.
func (m *matrix) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(m.Columns) == 1 {
		c := m.Columns[0]
		fmt.Fprintf(w, "%s\tworks\trefuses properly\tnot offered\twrong\n", c.Title)
		mark := func(n int) string {
			if n == 0 {
				return "·"
			}
			return fmt.Sprint(n)
		}
		for _, row := range m.Rows {
			of := m.Cell(row, c)
			works, absent := mark(of.Works), "·"
			switch {
			case !of.Offered():
				works, absent = "·", "×"
			case len(of.Wrong) == 0 && !of.Tested():
				works = "not tested"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", row, works, mark(of.Refuses), absent, mark(len(of.Wrong)))
		}
	} else {
		fmt.Fprint(w, "works / refuses properly")
		for _, c := range m.Columns {
			fmt.Fprint(w, "\t", c.Title)
		}
		fmt.Fprintln(w)
		for _, row := range m.Rows {
			fmt.Fprint(w, row)
			for _, c := range m.Columns {
				fmt.Fprint(w, "\t", m.Cell(row, c))
			}
			fmt.Fprintln(w)
		}
	}
	w.Flush()
	for _, c := range m.Columns {
		fmt.Fprintf(out, "\n%s: %d scenarios passed, %d failed, %d skipped\n", c.Title, c.Passed, c.Failed, c.Sum.skipped)
		for _, r := range m.Failures(c) {
			f := r.Failure
			if f == nil {
				continue
			}
			why, _, _ := strings.Cut(f.Error, "\n")
			fmt.Fprintf(out, "  wrong: %s, in %s/%s:%d\n    %s\n    %s\n", cmp.Or(f.Blamed, "(no call)"), r.FS, r.Name, f.Line, f.Phase, why)
		}
		for _, s := range c.Skips {
			fmt.Fprintf(out, "  skipped, %s: %s\n", s.Why, strings.Join(s.Names, " "))
		}
	}
}

// write writes the page, whole or not at all.
func (m *matrix) write(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".report-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(page.Execute(f, m), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
