package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// manuals writes the compressed manual pages to the stage's directory man. srctl writes its own.
func manuals(stage, full string, at time.Time) error {
	dir := filepath.Join(stage, "man")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	srctl := exec.Command(filepath.Join(stage, "srctl"), "man", dir)
	srctl.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", at.Unix()))
	if err := run(srctl); err != nil {
		return err
	}
	for name, section := range map[string]string{"reflinksr": "8", "reflinksr-metrics": "8", "srtest": "1"} {
		about, err := exec.Command("go", "list", "-f", "{{.Doc}}", "./cmd/"+name).Output()
		if err != nil {
			return fmt.Errorf("what %s is: %w", name, err)
		}
		usage, err := exec.Command(filepath.Join(stage, name), "--help").CombinedOutput()
		if exit := new(exec.ExitError); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 2) { // usage
			return fmt.Errorf("%s --help: %w\n%s", name, err, usage)
		}
		page := manual(name, section, full, at, strings.TrimSpace(string(about)), string(usage))
		if err := os.WriteFile(filepath.Join(dir, name+"."+section), []byte(page), 0o644); err != nil {
			return err
		}
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.[18]"))
	for _, page := range pages {
		if err == nil {
			err = zipped(page, page+".gz")
		}
	}
	return err
}

// zipped compresses a file, the same way every time.
func zipped(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// manual makes a manual page of a program's documentation ("Command x does …") and of what it says of its usage. In that, by
// how far a line is indented, are paragraphs (not at all), options (two, with a dash), commands (so that they begin
// below the first, "usage: x …"), and what is said of one of these (farther, or after two blanks).
func manual(name, section, full string, at time.Time, about, usage string) string {
	var b strings.Builder
	about = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(about, "Command "+name+" "), "is "), ".")
	fmt.Fprintf(&b, ".TH %s %s \"%s\" \"reflinksr %s\"\n.SH NAME\n%s \\- %s\n.SH USAGE\n",
		strings.ToUpper(name), section, at.Format(time.DateOnly), full, name, roff(about))
	begins := false // the next line that is not indented begins a paragraph
	for line := range strings.Lines(usage) {
		line = strings.TrimRight(line, "\n")
		if rest, first := strings.CutPrefix(line, "usage:"); first {
			line = "      " + rest
		}
		text := strings.TrimLeft(line, " \t")
		indent := len(line) - len(text)
		switch term, of, _ := strings.Cut(text, "  "); {
		case text == "":
			begins = true
		case indent == 7 && strings.HasPrefix(text, name+" "), indent == 2 && text[0] == '-':
			fmt.Fprintf(&b, ".TP\n.B %s\n", roff(term))
			if of = strings.TrimSpace(of); of != "" {
				b.WriteString(roff(of) + "\n")
			}
			begins = true
		default:
			if begins && indent == 0 {
				b.WriteString(".PP\n")
				begins = false
			}
			b.WriteString(roff(text) + "\n")
		}
	}
	return b.String()
}

// roff is text as it is, in a manual page.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
