package main

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"testing"

	"reflinksr/scripts"
)

// What was said is read back, whatever characters it has.
func TestJUnit(t *testing.T) {
	var j junit
	for _, r := range []scripts.Result{
		{Name: "a", FS: "xfs", Verdict: scripts.Passed, Seconds: 1.5},
		{Name: "b", FS: "btrfs", Verdict: scripts.Failed, Seconds: 0.25, Log: "a < b & \x1b[31m]]>\n", Failure: &scripts.Failure{File: "/x/b.txtar", Line: 7, Command: "leak\n", Phase: "Nothing is left.", Error: "\"left\"\x00"}},
		{Name: "c", FS: "xfs", Verdict: scripts.Skipped, Why: "not offered"},
	} {
		j.add(r)
	}
	path := filepath.Join(t.TempDir(), "junit.xml")
	if err := j.write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Suites []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Skipped  int    `xml:"skipped,attr"`
			Time     string `xml:"time,attr"`
			Cases    []struct {
				Class   string `xml:"classname,attr"`
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
				Skipped *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
				Output string `xml:"system-out"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &got); err != nil || len(got.Suites) != 2 || !bytes.HasPrefix(text, []byte("<?xml")) {
		t.Fatalf("%v\n%s", err, text)
	}
	x, b := got.Suites[0], got.Suites[1]
	if x.Name != "xfs" || x.Tests != 2 || x.Skipped != 1 || x.Time != "1.500" || x.Cases[0].Failure != nil || x.Cases[1].Skipped.Message != "not offered" {
		t.Errorf("%+v", x)
	}
	f := b.Cases[0]
	if b.Failures != 1 || f.Class != "srtest.btrfs" || f.Failure.Message != "\"left\"\uFFFD" || f.Failure.Text != "b.txtar:7: leak\nNothing is left." || f.Output != "a < b & \uFFFD[31m]]>\n" {
		t.Errorf("%+v: %+v", b, f.Failure)
	}
}
