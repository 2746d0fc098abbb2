package main

import (
	"encoding/xml"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What the package gives the host's bug tool (xenserver/status-report, load_plugins) is what that reads, and its commands are ours.
func TestBugtool(t *testing.T) {
	read := func(path string, into any) {
		t.Helper()
		text, err := os.ReadFile("../packaging/bugtool/" + path)
		if err == nil {
			err = xml.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var capability struct {
		XMLName xml.Name   `xml:"capability"`
		Attrs   []xml.Attr `xml:",any,attr"`
	}
	read("reflinksr.xml", &capability)
	for _, a := range capability.Attrs {
		allowed := map[string]string{"pii": "no|yes|maybe|if_customized", "max_size": "[0-9]+", "max_time": "[0-9]+", "mime": "application/data|text/plain", "checked": "true|false"}[a.Name.Local]
		if allowed == "" || !regexp.MustCompile("^("+allowed+")$").MatchString(a.Value) {
			t.Errorf("%s=%q", a.Name.Local, a.Value)
		}
	}
	var collect struct {
		XMLName xml.Name `xml:"collect"`
		All     []struct {
			XMLName xml.Name
			Label   string `xml:"label,attr"`
			Pattern string `xml:"pattern,attr"`
			Text    string `xml:",chardata"`
		} `xml:",any"`
	}
	read("reflinksr/stuff.xml", &collect)
	commands := 0
	for _, e := range collect.All {
		switch e.XMLName.Local {
		case "directory":
			if _, err := regexp.Compile(e.Pattern); err != nil || !strings.HasPrefix(e.Text, "/") {
				t.Errorf("%+v: %v", e, err)
			}
		case "command":
			commands++
			words := strings.Fields(e.Text)
			if e.Label == "" || words[0] != "/usr/sbin/srctl" {
				t.Errorf("%+v", e)
			}
			// Nothing is attached here, so it only has to be a command.
			var out, errs strings.Builder
			if status := run(words[1:], &out, &errs); status != 0 {
				t.Errorf("%s: exit %d, %s", e.Text, status, errs.String())
			}
		default:
			t.Errorf("%+v", e)
		}
	}
	if commands == 0 {
		t.Error("it collects nothing")
	}
	for _, a := range capability.Attrs {
		if n, err := strconv.Atoi(a.Value); a.Name.Local == "max_time" && (err != nil || n <= 95) {
			t.Errorf("it may take %d seconds, and its commands take longer", n)
		}
	}
}
