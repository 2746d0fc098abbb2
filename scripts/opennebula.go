package scripts

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"reflinksr/scripts/oned"
)

// oneadmin is the number of the user who runs OpenNebula.
const oneadmin = 9869

// cloud is an OpenNebula of a scenario.
type cloud struct {
	oned.Cloud
	daemon *oned.Daemon
	driver string
}

// releases are how each calls the actions of datastores, and shows errors.
var releases = map[string]struct {
	convention oned.Convention
	marked     bool
}{
	"5.12.0": {oned.Argument, true},
	"6.4.0":  {oned.Argument, false},
	"6.6.3":  {oned.Dash, false},
	"6.8.0":  {oned.Stdin, false},
	"7.4.0":  {oned.Stdin, false},
}

// startCloud makes an OpenNebula of a release.
func (s *script) startCloud(_ bool, args []string) error {
	release := "7.4.0"
	if len(args) > 0 {
		release = args[0]
	}
	how, known := releases[release]
	if len(args) > 1 || !known {
		return usage("cloud")
	}
	if s.config.OpenNebula == "" {
		return errors.New("this run has no drivers of OpenNebula: srtest run -opennebula DIR")
	}
	if s.cloud == nil {
		if err := s.layOut(); err != nil {
			return err
		}
	}
	s.cloud.Convention, s.cloud.Marked = how.convention, how.marked
	return os.WriteFile(filepath.Join(s.cloud.Remotes, "VERSION"), []byte(release+"\n"), 0o644)
}

// layOut makes the datastores 100 (of guests), 101 and 102 (of images and guests), the user's home and the drivers.
func (s *script) layOut() error {
	if s.ts.Getenv("MNT") == "" {
		if err := s.fs(false, nil); err != nil {
			return err
		}
	}
	mnt := s.ts.Getenv("MNT")
	for dir := mnt; dir != "/"; dir = filepath.Dir(dir) { // who is not root must get there
		st, err := os.Stat(dir)
		if err == nil && st.Mode()&0o001 == 0 {
			err = os.Chmod(dir, st.Mode()|0o011)
		}
		if err != nil {
			return err
		}
	}
	location, home, remotes := filepath.Join(mnt, "datastores"), filepath.Join(s.work, "home"), filepath.Join(s.work, "remotes")
	for _, dir := range []string{location, filepath.Join(location, "100"), filepath.Join(location, "101"), filepath.Join(location, "102"), home, filepath.Join(home, ".one"), filepath.Join(home, "bin")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := os.Chown(dir, oneadmin, oneadmin); err != nil {
			return err
		}
	}
	if err := os.CopyFS(remotes, os.DirFS(s.config.OpenNebula)); err != nil {
		return err
	}
	if err := filepath.WalkDir(remotes, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink == 0 {
			err = os.Chmod(path, 0o755)
		}
		return err
	}); err != nil {
		return err
	}
	names, err := os.ReadDir(filepath.Join(remotes, "datastore"))
	if err != nil {
		return err
	}
	c := &cloud{driver: "reflink"}
	if len(names) == 1 {
		c.driver = names[0].Name()
	}
	if c.daemon, err = oned.Start("oneadmin:secret", s.describe); err != nil {
		return err
	}
	auth := filepath.Join(home, ".one/one_auth")
	if err := os.WriteFile(auth, []byte("oneadmin:secret\n"), 0o644); err != nil {
		return err
	}
	c.Cloud = oned.Cloud{Remotes: remotes, Home: home, User: oneadmin, Timeout: s.config.timeout(), Env: []string{"ONE_XMLRPC=" + c.daemon.Address, "ONE_AUTH=" + auth}}
	s.cloud = c
	if err := s.countSSH(); err != nil {
		return err
	}
	host, err := os.Hostname()
	s.setenv("FE", host)
	s.setenv("LOCATION", location)
	s.setenv("SYSTEM", filepath.Join(location, "100"))
	s.setenv("IMAGES", filepath.Join(location, "101"))
	return err
}

// countSSH has each ssh of the user leave a byte in a file, and names the hosts.
func (s *script) countSSH() error {
	if s.config.Hosts == nil {
		return nil
	}
	for i, host := range s.config.Hosts {
		s.setenv("HOST"+strconv.Itoa(i+1), host)
	}
	count := filepath.Join(s.cloud.Home, "ssh")
	if err := os.WriteFile(count, nil, 0o666); err != nil {
		return err
	}
	if err := os.Chmod(count, 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.cloud.Home, "bin/ssh"), []byte("#!/bin/sh\nprintf 1 >> "+count+"\nexec /usr/bin/ssh \"$@\"\n"), 0o755) // #nosec G306 -- a program
}

// countedSSH sets SSH to how often the user has called ssh since it was asked last.
func (s *script) countedSSH() error {
	if s.config.Hosts == nil {
		return nil
	}
	count := filepath.Join(s.cloud.Home, "ssh")
	data, err := os.ReadFile(count)
	if err != nil {
		return err
	}
	s.setenv("SSH", strconv.Itoa(len(data)))
	return os.Truncate(count, 0)
}

// describe is what oned says of a guest, an image or a datastore: the scenario's file vm.ID, image.ID or datastore.ID, or, of a guest, that it has ten raw disks.
func (s *script) describe(kind, id string) (string, error) {
	data, err := os.ReadFile(filepath.Join(s.work, kind+"."+id))
	if err == nil || !errors.Is(err, os.ErrNotExist) || kind != "vm" {
		return string(data), err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<VM><ID>%s</ID><LCM_STATE>3</LCM_STATE><DEPLOY_ID>one-%s</DEPLOY_ID><TEMPLATE>", id, id)
	for i := range 10 {
		fmt.Fprintf(&b, "<DISK><DISK_ID>%d</DISK_ID><FORMAT>raw</FORMAT><TM_MAD>%s</TM_MAD></DISK>", i, s.cloud.driver)
	}
	b.WriteString("</TEMPLATE></VM>")
	return b.String(), nil
}

// sendLine sends an executive a line, and answers what it answered.
func (s *script) sendLine(line string) (string, error) {
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := s.cloud.Serve(s.config.context(), strings.NewReader("INIT\n"+line+"\nFINALIZE\n"), write)
		write.CloseWithError(err)
		done <- err
	}()
	data, err := io.ReadAll(read)
	if e := <-done; err == nil {
		err = e
	}
	text, ok := strings.CutPrefix(string(data), "INIT SUCCESS - -\n")
	if err == nil && (!ok || strings.Count(text, "\n") != 1) {
		err = fmt.Errorf("the executive answered %q", data)
	}
	return strings.TrimSpace(text), err
}

// judge holds an answer against what is expected: says=TEXT is a part of the error.
func (s *script) judge(not bool, answer, says string) (string, error) {
	words := strings.SplitN(answer, " ", 4)
	if len(words) != 4 {
		return "", fmt.Errorf("the executive answered %q", answer)
	}
	info := strings.TrimSpace(words[3])
	s.tell("%s %s: %s", words[0], words[1], info)
	switch {
	case words[1] == "SUCCESS" && !not:
		return info, nil
	case words[1] == "SUCCESS":
		return "", fmt.Errorf("it succeeded: %s", info)
	case !not:
		return "", fmt.Errorf("it failed: %s", info)
	case info == "-" || !strings.Contains(info, says):
		return "", fmt.Errorf("the error is %q, without %q", info, says)
	}
	return info, nil
}

// parts takes says=TEXT out of arguments.
func parts(args []string) (rest []string, says string) {
	for _, arg := range args {
		if text, is := strings.CutPrefix(arg, "says="); is {
			says = text
			continue
		}
		rest = append(rest, arg)
	}
	return rest, says
}

// ds has the datastore's executive do an action.
func (s *script) ds(not bool, args []string) error {
	args, says := parts(args)
	if s.cloud == nil || len(args) == 0 {
		return usage("ds")
	}
	payload, err := s.dump(args[1:])
	if err != nil {
		return err
	}
	answer, err := s.sendLine(strings.ToUpper(args[0]) + "  7 " + payload)
	if err != nil {
		return err
	}
	info, err := s.judge(not, answer, says)
	if err == nil {
		err = s.countedSSH()
	}
	if err != nil || not {
		return err
	}
	if args[0] == "monitor" {
		data, err := base64.StdEncoding.DecodeString(info)
		if err != nil {
			return err
		}
		info = strings.Join(strings.Fields(string(data)), " ")
	}
	source, format, _ := strings.Cut(info, " ")
	s.setenv("ANSWER", info)
	s.setenv("SOURCE", source)
	s.setenv("FORMAT", format)
	return nil
}

// dump is what the executive is sent about KEY=VALUE...; with raw=TEXT, or raw=xN for N bytes, it is that.
func (s *script) dump(args []string) (string, error) {
	image, datastore := map[string]string{}, map[string]string{"ID": "101", "TYPE": "0", "BASE_PATH": s.ts.Getenv("IMAGES") + "/", "DS_MAD": s.cloud.driver, "TM_MAD": s.cloud.driver}
	template, extra := map[string]string{}, map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return "", usage("ds")
		}
		if key == "raw" {
			if n, err := strconv.Atoi(strings.TrimPrefix(value, "x")); err == nil {
				return strings.Repeat("A", n), nil
			}
			return value, nil
		}
		if k, is := strings.CutPrefix(key, "ds."); is {
			datastore[k] = value
		} else if k, is := strings.CutPrefix(key, "extra."); is {
			extra[k] = value
		} else if k, is := strings.CutPrefix(key, "template."); is {
			template[k] = value
		} else {
			image[key] = value
		}
	}
	var b strings.Builder
	element := func(k, v string) {
		fmt.Fprintf(&b, "<%s>", k)
		xml.EscapeText(&b, []byte(v))
		fmt.Fprintf(&b, "</%s>", k)
	}
	b.WriteString("<DS_DRIVER_ACTION_DATA><IMAGE>")
	for k, v := range image {
		element(k, v)
	}
	b.WriteString("</IMAGE><DATASTORE>")
	for k, v := range datastore {
		element(k, v)
	}
	b.WriteString("<TEMPLATE>")
	for k, v := range template {
		element(k, v)
	}
	b.WriteString("</TEMPLATE></DATASTORE><EXTRA_DATA>")
	for k, v := range extra {
		element(k, v)
	}
	b.WriteString("</EXTRA_DATA>")
	element("DATASTORE_LOCATION", s.ts.Getenv("LOCATION"))
	b.WriteString("</DS_DRIVER_ACTION_DATA>")
	return base64.StdEncoding.EncodeToString([]byte(b.String())), nil
}

// tm has the transfer's executive run a line.
func (s *script) tm(not bool, args []string) error {
	args, says := parts(args)
	if s.cloud == nil || len(args) == 0 {
		return usage("tm")
	}
	stdin := ""
	if file, is := strings.CutPrefix(args[len(args)-1], "stdin="); is {
		data, err := os.ReadFile(s.ts.MkAbs(file))
		if err != nil {
			return err
		}
		stdin, args = string(data), args[:len(args)-1]
	}
	line := append([]string{args[0], s.cloud.driver}, args[1:]...)
	if stdin != "" {
		verdict := "SUCCESS"
		_, why := s.cloud.Action(s.config.context(), line, stdin)
		if why != "" {
			verdict = "FAILURE"
		}
		if _, err := s.judge(not, args[0]+" "+verdict+" 42 "+why, says); err != nil {
			return err
		}
		return s.countedSSH()
	}
	file := filepath.Join(s.work, "transfer.0")
	if err := os.WriteFile(file, []byte(strings.Join(line, " ")+"\n"), 0o644); err != nil {
		return err
	}
	answer, err := s.sendLine("TRANSFER  42 " + file)
	if err != nil {
		return err
	}
	if _, err = s.judge(not, answer, says); err != nil {
		return err
	}
	return s.countedSSH()
}
