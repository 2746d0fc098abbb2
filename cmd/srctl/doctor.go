package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/cmd/internal/version"
	"reflinksr/internal/doctor"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"

	"github.com/spf13/cobra"
)

func (s *session) doctor() *cobra.Command {
	return s.answersJSON(command("doctor", "look whether this host can have SRs, and what is wrong",
		`doctor looks whether this host can have SRs, and what is wrong with those that it has:
kernel, programs, room, the installed plugin, other hosts' versions; each with what to
do. It changes nothing, and fails if something is bad.`,
		`  srctl doctor
  srctl doctor --json | jq '.[] | select(.verdict != "fine")'`, 0, 0, s.diagnoseHost))
}

func (s *session) diagnoseHost(ctx context.Context, _ []string) error {
	stop := busy("looking")
	all := append(doctor.Host(), lookAtPlugin())
	all = append(all, lookAtSRs(ctx)...)
	stop()
	if s.json {
		if err := printJSON(s.out, all); err != nil {
			return err
		}
	} else if err := printFindings(s.out, all); err != nil {
		return err
	}
	if doctor.Worst(all) == doctor.Bad {
		return errProblems
	}
	return nil
}

func printFindings(out io.Writer, all []doctor.Finding) error {
	width := terminalWidth(out)
	for _, f := range all {
		texts := wrapped(printable(f.Text), width-21)
		if f.Remedy != "" {
			texts = append(texts, wrapped("to do: "+printable(f.Remedy), width-21)...)
		}
		lead := fmt.Sprintf("%-5s %-14s", f.Verdict, f.What)
		for _, text := range texts {
			if _, err := fmt.Fprintf(out, "%-20s %s\n", lead, text); err != nil {
				return err
			}
			lead = ""
		}
	}
	return nil
}

// lookAtPlugin looks at what the toolstack would start.
func lookAtPlugin() doctor.Finding {
	root := plugin.Root()
	if root == "" {
		return doctor.Finding{What: "plugin", Verdict: doctor.Note, Text: "no toolstack is here that would look for one", Remedy: "on a host of xapi: " + installer()}
	}
	release, err := installedRelease(root)
	return judgePlugin(root, release, version.String(), err)
}

// installedRelease asks the installed programs which version they are.
func installedRelease(root string) (release string, err error) {
	programs, err := plugin.Installed(root)
	for _, path := range programs {
		out, err := exec.Command(path, "version").Output() // #nosec G204 -- the program that the toolstack runs
		if err != nil {
			return "", fmt.Errorf("%s does not run: %w", path, err)
		}
		_, text, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
		if release != "" && text != release {
			return "", fmt.Errorf("%s is %s, the other plugin %s", path, text, release)
		}
		release = text
	}
	return release, err
}

// installer is what puts the plugin in place: the package's program, if the package is here.
func installer() string {
	if _, err := os.Stat(plugin.Packaged); err == nil {
		return plugin.Packaged + " install"
	}
	return "reflinksr install"
}

func judgePlugin(root, installed, ours string, err error) doctor.Finding {
	f := doctor.Finding{What: "plugin", Verdict: doctor.Fine, Text: fmt.Sprintf("installed below %s: %s", root, installed)}
	switch {
	case errors.Is(err, plugin.ErrAnother):
		f.Verdict, f.Text, f.Remedy = doctor.Bad, err.Error(), "remove that plugin, if its SRs are detached; then run: "+installer()+", and restart the toolstack: xe-toolstack-restart"
	case err != nil:
		f.Verdict, f.Text, f.Remedy = doctor.Bad, err.Error(), "run: "+installer()+", then restart the toolstack: xe-toolstack-restart"
	case installed != ours:
		f.Verdict, f.Remedy = doctor.Note, "install both from one package; from that which is here by: "+installer()
		f.Text += "; srctl is " + ours
	}
	return f
}

// lookAtSRs looks at the SRs that are attached here.
func lookAtSRs(ctx context.Context) (all []doctor.Finding) {
	srs, err := repository.Attached(ctx)
	if err != nil {
		all = append(all, doctor.Finding{What: "SRs", Verdict: doctor.Bad, Text: err.Error()})
	}
	for _, answer := range askHost[[]doctor.Finding](srs, "doctor", 0, patience) {
		if answer.err != nil {
			answer.value = []doctor.Finding{{What: "SR", Verdict: doctor.Bad, Text: answer.err.Error()}}
		}
		all = append(all, answer.value...)
	}
	return all
}

// lookAtSR looks at one SR.
func lookAtSR(ctx context.Context, one repository.SR) (all []doctor.Finding, err error) {
	path, err := one.Path()
	if err != nil {
		return nil, err
	}
	st, err := one.Stat(ctx)
	if errors.Is(err, fault.ErrNotAttached) {
		return nil, err
	}
	all = append(all, judgeSR(path, st, err))
	if all[0].Verdict == doctor.Bad {
		return all, nil
	}
	hosts, err := one.Hosts(ctx)
	if err != nil {
		all = append(all, doctor.Finding{What: "hosts", Verdict: doctor.Note, Text: path + ": " + err.Error()})
	}
	for _, h := range hosts {
		if h.Release != version.Version {
			all = append(all, judgeHost(path, h.Host, h.Name, h.Release))
		}
	}
	return all, nil
}

func judgeSR(path string, st repository.SRStat, err error) doctor.Finding {
	f := doctor.Finding{What: "SR", Verdict: doctor.Fine, Text: path}
	switch {
	case err != nil:
		f.Verdict, f.Text = doctor.Bad, path+": "+err.Error()
	case st.Health[0] != repository.Healthy:
		f.Verdict, f.Text = doctor.Bad, st.Health[1]
	case st.Health[1] != "":
		f.Verdict, f.Text = doctor.Note, path+": "+st.Health[1]
	}
	return f
}

func judgeHost(path, host, name, release string) doctor.Finding {
	if release == "" {
		release = "a version that does not tell"
	}
	return doctor.Finding{What: "hosts", Verdict: doctor.Note,
		Text:   fmt.Sprintf("%s: host %s (%q) has attached it with %s, srctl here is %s", path, host, name, release, version.Version),
		Remedy: "install the same version on all hosts of the pool, then attach the SR there again"}
}
