package scripts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapiv1/xmlrpc"
	"reflinksr/scripts/xapi"
)

// smhost is a host of a scenario whose toolstack speaks SMAPIv1.
type smhost struct {
	xapi  *xapi.Xapi
	conf  map[string]string // the device configuration
	sr    string            // the reference of its SR
	texts map[string]string // of options: what is expected
}

// sm is the verb.
func (s *script) sm(not bool, args []string) error {
	if s.config.SMAPIv1 == "" {
		return errors.New("this run has no drivers of SMAPIv1: srtest run -smapiv1 DIR")
	}
	if len(args) == 0 {
		return usage("sm")
	}
	if s.smhost == nil {
		if err := s.startXapi(); err != nil {
			return err
		}
	}
	if do, is := map[string]func([]string) error{"conf": s.smConf, "row": s.smRow, "rows": s.smRows, "set": s.smSet, "fail": s.smFail, "has": s.smHas, "raw": s.smRaw}[args[0]]; is && !not {
		return do(args[1:])
	}
	before, err := s.fingerprint()
	if err != nil {
		return err
	}
	var words []string
	s.smhost.texts = map[string]string{}
	for _, arg := range args {
		if key, value, is := strings.Cut(arg, "="); is && slices.Contains([]string{"fault", "status", "says", "sr", "session", "type", "on_boot", "master", "new_uuid", "uuid"}, key) {
			s.smhost.texts[key] = value
			continue
		}
		words = append(words, arg)
	}
	if len(words) == 0 {
		return usage("sm")
	}
	if strings.HasSuffix(words[0], "SR") {
		err = s.smFormer(not, words)
	} else {
		err = s.smToday(not, words)
	}
	if after, e := s.fingerprint(); not && err == nil && (e != nil || after != before) {
		err = fmt.Errorf("it was refused, but the SR is not as before\nbefore:\n%s\nafter:\n%s%v", before, after, e)
	}
	return err
}

func (s *script) startXapi() error {
	if s.ts.Getenv("SR_PATH") == "" {
		if _, err := s.prepare("SR"); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "rsr-xapi-") // a socket's path is short
	if err != nil {
		return err
	}
	x, err := xapi.Start(filepath.Join(dir, "xapi"))
	if err != nil {
		os.RemoveAll(dir)
		return err
	}
	s.smhost = &smhost{xapi: x, conf: map[string]string{"location": s.ts.Getenv("SR_PATH")}}
	s.smhost.sr = x.NewSR(s.ts.Getenv("SR_UUID"), "scenario")
	return nil
}

func (h *smhost) stop() {
	h.xapi.Stop()
	os.RemoveAll(filepath.Dir(h.xapi.Socket))
}

// smConf sets the device configuration.
func (s *script) smConf(args []string) error {
	s.smhost.conf = map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return usage("sm")
		}
		s.smhost.conf[key] = value
	}
	return nil
}

// smRow looks at a row: of a disk, or of the SR.
func (s *script) smRow(args []string) error {
	if len(args) != 3 {
		return usage("sm")
	}
	_, row := s.smhost.xapi.VDI(args[0])
	if args[0] == s.ts.Getenv("SR_UUID") {
		row = s.smhost.xapi.SR(s.smhost.sr)
	}
	if row == nil {
		return fmt.Errorf("the database has no row of %s", args[0])
	}
	value := row[args[1]]
	if key, is := strings.CutPrefix(args[1], "sm_config:"); is {
		value = row["sm_config"].(xmlrpc.Struct)[key]
	}
	if ref, is := value.(string); is && args[1] == "snapshot_of" {
		if _, of := s.smhost.xapi.VDI(args[2]); of != nil {
			if want, _ := s.smhost.xapi.VDI(args[2]); ref == want {
				value = args[2]
			}
		}
	}
	if fmt.Sprint(value) != args[2] {
		return fmt.Errorf("the row of %s has %v as %s", args[0], value, args[1])
	}
	return nil
}

// smRows looks which disks the database has.
func (s *script) smRows(args []string) error {
	slices.Sort(args)
	if rows := s.smhost.xapi.VDIs(s.smhost.sr); !slices.Equal(rows, args) {
		return fmt.Errorf("the database has rows of %q", rows)
	}
	return nil
}

// smSet changes a row, as an administrator does.
func (s *script) smSet(args []string) error {
	if len(args) < 2 {
		return usage("sm")
	}
	ref, row := s.smhost.xapi.VDI(args[0])
	if row == nil {
		return fmt.Errorf("the database has no row of %s", args[0])
	}
	if args[1] == "gone" {
		s.smhost.xapi.Set(ref, "", nil)
		return nil
	}
	if len(args) != 3 {
		return usage("sm")
	}
	var value any = args[2]
	if b, err := strconv.ParseBool(args[2]); err == nil {
		value = b
	}
	if args[1] == "sm_config" {
		value = xmlrpc.Struct{}
	}
	s.smhost.xapi.Set(ref, args[1], value)
	return nil
}

func (s *script) smFail(args []string) error {
	if len(args) == 0 {
		return usage("sm")
	}
	s.smhost.xapi.Fail(args[0], args[1:]...)
	return nil
}

// smRaw starts the driver with the contents of a file as its argument; the answer is a fault.
func (s *script) smRaw(args []string) error {
	if len(args) < 2 {
		return usage("sm")
	}
	data, err := os.ReadFile(s.ts.MkAbs(args[0]))
	if err != nil {
		return err
	}
	s.smhost.texts = map[string]string{"fault": args[1], "says": strings.Join(args[2:], " ")}
	_, err = s.smAnswer(true, "ReflinkSR", string(data))
	return err
}

// smRun starts a driver.
func (s *script) smRun(driver string, args ...string) (stdout, stderr []byte, status int, err error) {
	ctx, cancel := context.WithTimeout(s.config.context(), s.config.timeout())
	defer cancel()
	path := filepath.Join(s.config.SMAPIv1, driver)
	p := exec.CommandContext(ctx, path, args...) // #nosec G204 -- the driver under test
	if s.sandbox.Unusual() {
		program, argv, err := s.sandbox.Command(path, args...)
		if err != nil {
			return nil, nil, 0, err
		}
		p = exec.CommandContext(ctx, program) // #nosec G204 -- this program
		p.Args = argv
	}
	p.Env = []string{"PATH=" + os.Getenv("PATH"), "ORIGINATOR=SM", "REFLINKSR_XAPI=" + s.smhost.xapi.Socket, "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}
	var out, errs bytes.Buffer
	p.Stdout, p.Stderr = &out, &errs
	err = p.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return out.Bytes(), errs.Bytes(), exit.ExitCode(), nil
	}
	return out.Bytes(), errs.Bytes(), 0, err
}

// smAnswer asks a driver in the form of today, and holds what it answers against what is expected.
func (s *script) smAnswer(not bool, driver string, request string) (any, error) {
	stdout, stderr, status, err := s.smRun(driver, request)
	if err != nil {
		return nil, err
	}
	if status != 0 || len(stderr) > 0 {
		return nil, fmt.Errorf("it exited with status %d, and said %q", status, stderr)
	}
	value, err := xmlrpc.ParseResponse(stdout)
	var refused *xmlrpc.Fault
	switch {
	case errors.As(err, &refused):
		s.tell("fault %d: %s", refused.Code, refused.Text)
		if !not {
			return nil, refused
		}
		if want := s.smhost.texts["fault"]; want != "" && want != strconv.Itoa(refused.Code) {
			return nil, fmt.Errorf("the fault is %d: %s", refused.Code, refused.Text)
		}
		if says := s.smhost.texts["says"]; !strings.Contains(refused.Text, says) {
			return nil, fmt.Errorf("the fault does not say %q: %s", says, refused.Text)
		}
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %q", err, stdout)
	case not:
		return nil, fmt.Errorf("it succeeded: %s", stdout)
	}
	s.setenv("ANSWER", fmt.Sprint(value))
	return value, nil
}

// smFormer makes a command of the first form: DRIVER COMMAND ARGUMENT...
func (s *script) smFormer(not bool, words []string) error {
	if len(words) < 2 {
		return usage("sm")
	}
	var dconf bytes.Buffer
	dconf.WriteString("<dconf>")
	for key, value := range s.smhost.conf {
		fmt.Fprintf(&dconf, "<%s>%s</%[1]s>", key, value)
	}
	dconf.WriteString("</dconf>")
	uuid := s.ts.Getenv("SR_UUID")
	if other, is := s.smhost.texts["sr"]; is {
		uuid = other
	}
	stdout, stderr, status, err := s.smRun(words[0], append([]string{words[1], dconf.String(), uuid}, words[2:]...)...)
	if err != nil {
		return err
	}
	said := strings.TrimSpace(string(stderr))
	s.tell("status %d: %s", status, said)
	if !not && (status != 0 || said != "") {
		return fmt.Errorf("it failed: %v: %s", unix.Errno(status), said)
	}
	if not && status == 0 {
		return fmt.Errorf("it succeeded: %s", stdout)
	}
	if want := s.smhost.texts["status"]; not && want != "" && unix.ErrnoName(unix.Errno(status)) != want {
		return fmt.Errorf("its status is %d (%s): %s", status, unix.ErrnoName(unix.Errno(status)), said)
	}
	if not && (len(stdout) > 0 || !strings.HasPrefix(said, words[1]+": ") || !strings.Contains(said, s.smhost.texts["says"])) {
		return fmt.Errorf("it says %q, without %q, and answers %q", said, s.smhost.texts["says"], stdout)
	}
	if not {
		return nil
	}
	if slices.Contains([]string{"sr_scan", "sr_content_type", "vdi_attach"}, words[1]) != (len(stdout) > 0) {
		return fmt.Errorf("it answers %q", stdout)
	}
	s.setenv("ANSWER", string(stdout))
	if words[1] == "vdi_attach" {
		path, err := elementAt(stdout, "sr/path")
		s.setenv("DEV", strings.Trim(path, `" `))
		return err
	}
	return nil
}

// smHas looks at an element of the last answer, which is XML: sr/uuid, vdi:UUID/size.
func (s *script) smHas(args []string) error {
	if len(args) != 2 {
		return usage("sm")
	}
	text, err := elementAt([]byte(s.ts.Getenv("ANSWER")), args[0])
	if err == nil && text != args[1] {
		err = fmt.Errorf("%s is %q", args[0], text)
	}
	return err
}
