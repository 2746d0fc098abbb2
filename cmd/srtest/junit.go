package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/scripts"
)

// junit keeps results for a file of JUnit's XML, which continuous integration shows as tests: a suite for each kind of filesystem, a case for each scenario.
type junit struct {
	suites []*junitSuite
}

type junitSuite struct {
	XMLName  xml.Name `xml:"testsuite"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Time     seconds  `xml:"time,attr"`
	Cases    []junitCase
}

type junitCase struct {
	XMLName xml.Name `xml:"testcase"`
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    seconds  `xml:"time,attr"`
	Failure *junitText
	Skipped *junitText
	Output  string `xml:"system-out,omitempty"`
}

// junitText is why a case failed or was skipped.
type junitText struct {
	XMLName xml.Name
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

type seconds float64

// MarshalXMLAttr writes them with milliseconds.
func (s seconds) MarshalXMLAttr(name xml.Name) (xml.Attr, error) {
	return xml.Attr{Name: name, Value: fmt.Sprintf("%.3f", float64(s))}, nil
}

func (j *junit) add(r scripts.Result) {
	i := slices.IndexFunc(j.suites, func(s *junitSuite) bool { return s.Name == r.FS })
	if i < 0 {
		i = len(j.suites)
		j.suites = append(j.suites, &junitSuite{Name: r.FS})
	}
	s := j.suites[i]
	c := junitCase{Class: "srtest." + r.FS, Name: r.Name, Time: seconds(r.Seconds)}
	switch r.Verdict {
	case scripts.Skipped:
		s.Skipped++
		c.Skipped = &junitText{XMLName: xml.Name{Local: "skipped"}, Message: r.Why}
	case scripts.Failed:
		s.Failures++
		c.Failure, c.Output = &junitText{XMLName: xml.Name{Local: "failure"}}, r.Log
		if f := r.Failure; f != nil {
			c.Failure.Message = f.Error
			c.Failure.Text = strings.TrimSpace(fmt.Sprintf("%s:%d: %s\n%s", filepath.Base(f.File), f.Line, strings.TrimSpace(f.Command), f.Phase))
		}
	}
	s.Tests++
	s.Time += seconds(r.Seconds)
	s.Cases = append(s.Cases, c)
}

// write writes the file, in place of one that is there.
func (j *junit) write(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) // #nosec G302 G304 -- for whoever shows it, where the tester says
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, xml.Header)
	if err == nil {
		e := xml.NewEncoder(f)
		e.Indent("", "  ")
		err = e.Encode(struct {
			XMLName xml.Name `xml:"testsuites"`
			Suites  []*junitSuite
		}{Suites: j.suites})
	}
	return errors.Join(err, f.Close())
}
