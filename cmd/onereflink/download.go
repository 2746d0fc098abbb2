package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/opennebula"
)

// A path with one of these before it is fetched by OpenNebula's own downloader, which knows all its markets and backups.
var scheme = regexp.MustCompile(`^[a-z][a-z0-9+.-]{0,30}://[^\s[:cntrl:]]+$`)

// remote says whether an image's path is one that has to be fetched. A file is none: which of those may be taken SAFE_DIRS says.
func remote(path string) bool {
	return len(path) <= 4096 && scheme.MatchString(path) && !strings.HasPrefix(path, "file:")
}

// download has OpenNebula's downloader fetch something and gives it to do, as it comes. The downloader must succeed as well, unless do wants no more.
func download(ctx context.Context, remotes, url string, options []string, do func(io.Reader) error) error {
	if !remote(url) {
		return fault.Errorf(fault.ErrInvalid, url, "%q is no address of anything that could be fetched", fault.Shorten(url))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c := exec.CommandContext(ctx, filepath.Join(remotes, "datastore/downloader.sh"), append(options, url, "-")...) // #nosec G204 -- OpenNebula's own, and what oned names
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: true}                                                               // it is a shell with children
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	errs := tail{}
	c.Stderr = &errs
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return fault.Errorf(fault.ErrUnavailable, url, "OpenNebula's downloader does not run: %w", err)
	}
	err = do(out)
	if err != nil {
		stop()
	}
	if e := c.Wait(); err == nil && e != nil {
		err = fault.Errorf(fault.ErrUnavailable, url, "%s could not be fetched (%v): %s", fault.Shorten(url), e, opennebula.OneLine(errs.String()))
	}
	return err
}

// send sends what is fetched as a part, which is whole only if the downloader says so.
func send(ctx context.Context, remotes, url string, options []string, to *opennebula.Parts) error {
	if err := download(ctx, remotes, url, options, to.Send); err != nil {
		return err
	}
	return to.End()
}

// tail keeps the end of what a program says.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	t.Buffer.Write(p[max(0, n-2000):])
	if t.Len() > 4000 {
		t.Next(t.Len() - 2000)
	}
	return n, nil
}

// fetch is a task that takes what is fetched, here, and sent to the host that has the datastore.
func fetch(d opennebula.Dump) task {
	options := []string{}
	for flag, value := range map[string]string{"--md5": d.Image.MD5, "--sha1": d.Image.SHA1, "--limit": d.Datastore.Bandwidth} {
		if value != "" {
			options = append(options, flag, value)
		}
	}
	if !unpacked(d) {
		options = append(options, "--nodecomp")
	}
	t := task{Do: "take", From: d.Image.Path, Raw: d.IsFile()}
	t.feed = func(ctx context.Context, to *opennebula.Parts) error {
		return send(ctx, d.Remotes, d.Image.Path, options, to)
	}
	return t
}

// unpacked says whether what is compressed is to be unpacked: images are, files are not, unless the datastore says otherwise.
func unpacked(d opennebula.Dump) bool {
	if d.Datastore.Compressed == "" {
		return d.Datastore.Type != "2"
	}
	return !strings.EqualFold(d.Datastore.Compressed, "yes")
}

// begins is how much of an image tells its size.
const begins = 512

// remoteSize is the size in MiB of an image that is to be fetched.
func remoteSize(ctx context.Context, d opennebula.Dump) (string, error) {
	url := d.Image.Path
	if _, err := opennebula.Bytes("SIZE", d.Image.Size); err == nil {
		return d.Image.Size + "\n", nil
	}
	size := int64(0)
	var err error
	if strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "https://") {
		size, err = webSize(ctx, url)
	} else {
		err = download(ctx, d.Remotes, url, []string{"--nodecomp"}, func(from io.Reader) error {
			begin := make([]byte, begins)
			n, err := io.ReadFull(from, begin)
			if virtual, is := qcow2Size(begin[:n]); is {
				size = virtual
				return errKnown
			}
			if err == nil {
				size, err = io.Copy(io.Discard, from)
			}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = nil
			}
			size += int64(n)
			return err
		})
		if err == errKnown {
			err = nil
		}
	}
	if err == nil && size <= 0 {
		err = fault.Hint(fault.Errorf(fault.ErrUnavailable, url, "%s does not tell how large it is", fault.Shorten(url)), "give the image's SIZE")
	}
	return fmt.Sprintln((size + 1<<20 - 1) >> 20), err
}

// errKnown ends a download of which enough is known.
var errKnown = fmt.Errorf("the size is known")

// qcow2Size is the size of a disk by the beginning of its qcow2 image.
func qcow2Size(begin []byte) (int64, bool) {
	if len(begin) < 32 || string(begin[:4]) != "QFI\xfb" {
		return 0, false
	}
	size := binary.BigEndian.Uint64(begin[24:])
	return int64(size), size <= 1<<59 // #nosec G115 -- it fits then
}

// webSize asks a web server for the beginning of an image.
func webSize(ctx context.Context, url string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Range", fmt.Sprintf("bytes=0-%d", begins-1))
	request.Header.Set("Accept-Encoding", "identity")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusPartialContent {
		return 0, fault.Errorf(fault.ErrUnavailable, url, "%s answers %s", fault.Shorten(url), opennebula.OneLine(answer.Status))
	}
	begin := make([]byte, begins)
	n, err := io.ReadFull(answer.Body, begin)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return 0, err
	}
	if size, is := qcow2Size(begin[:n]); is {
		return size, nil
	}
	if market, err := strconv.ParseInt(answer.Header.Get("OpenNebula-AppMarket-Size"), 10, 64); err == nil {
		return market, nil
	}
	if _, all, partial := strings.Cut(answer.Header.Get("Content-Range"), "/"); partial {
		size, _ := strconv.ParseInt(all, 10, 64)
		return size, nil
	}
	return answer.ContentLength, nil
}
