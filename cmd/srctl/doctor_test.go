package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/internal/doctor"
	"reflinksr/internal/repository"
)

// What a doctor says of the plugin, of SRs and of other hosts.
func TestDoctorJudges(t *testing.T) {
	state := func(state, text string) repository.SRStat {
		return repository.SRStat{Health: [2]string{state, text}}
	}
	for _, c := range []struct {
		name    string
		is      doctor.Finding
		verdict doctor.Verdict
		says    string
	}{
		{"as it should be", judgePlugin("/r", "0.2.0", "0.2.0", nil), doctor.Fine, "/r"},
		{"two versions", judgePlugin("/r", "0.1.0", "0.2.0", nil), doctor.Note, "one package"},
		{"half installed", judgePlugin("/r", "", "0.2.0", errors.New("/r lacks SR.ls")), doctor.Bad, "reflinksr install"},
		{"an SR", judgeSR("/sr", state(repository.Healthy, ""), nil), doctor.Fine, "/sr"},
		{"a full SR", judgeSR("/sr", state(repository.Healthy, "it may run full"), nil), doctor.Note, "/sr: it may run full"},
		{"an SR that is away", judgeSR("/sr", state("Unreachable", "/sr is not mounted"), nil), doctor.Bad, "/sr is not mounted"},
		{"an SR that cannot be asked", judgeSR("/sr", state("", ""), errors.New("I/O")), doctor.Bad, "/sr: I/O"},
		{"a host with another version", judgeHost("/sr", "u", "n", "0.0.9"), doctor.Note, "0.0.9"},
		{"one that does not tell", judgeHost("/sr", "u", "n", ""), doctor.Note, "does not tell"},
	} {
		if c.is.Verdict != c.verdict || !strings.Contains(c.is.Text+" "+c.is.Remedy, c.says) || c.is.What == "" {
			t.Errorf("%s: %+v, want %s and %q", c.name, c.is, c.verdict, c.says)
		}
	}
}

// Two plugins of one version are one release; of two, or one that does not run, they are not installed.
func TestInstalledRelease(t *testing.T) {
	root := t.TempDir()
	if err := plugin.Install([]string{"-root", root}, io.Discard); err != nil {
		t.Fatal(err)
	}
	volume, datapath := plugin.Directories(root)
	for _, c := range []struct{ volume, datapath, want, failed string }{
		{"echo reflinksr 0.1.0 x", "echo reflinksr 0.1.0 x", "0.1.0 x", ""},
		{"echo reflinksr 0.1.0 x", "echo reflinksr 0.1.1 x", "", "the other plugin 0.1.1 x"},
		{"exit 3", "echo reflinksr 0.1.0 x", "", "does not run"},
	} {
		for dir, line := range map[string]string{volume: c.volume, datapath: c.datapath} {
			path := filepath.Join(dir, "reflinksr")
			if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("#!/bin/sh\n"+line+"\n"), 0o700)); err != nil { // #nosec G306 -- a program
				t.Fatal(err)
			}
		}
		got, err := installedRelease(root)
		if got != c.want || (err == nil) != (c.failed == "") || err != nil && !strings.Contains(err.Error(), c.failed) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	if _, err := installedRelease(t.TempDir()); err == nil {
		t.Error("nothing is installed, and that is fine")
	}
}
