package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reflinksr/internal/datastore"
	"reflinksr/internal/image"
	"reflinksr/internal/opennebula"
	"reflinksr/scripts/tests"
)

// downloader is this test binary in the place of OpenNebula's downloader: downloader.sh [--md5 SUM] [--nodecomp] ADDRESS -
func downloader(args []string) int {
	sum := ""
	for len(args) > 2 {
		if args[0] == "--md5" {
			sum, args = args[1], args[1:]
		}
		args = args[1:]
	}
	answer, err := http.Get(args[0])
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the server answers %s", answer.Status)
	}
	h := md5.New()
	if err == nil {
		_, err = io.Copy(io.MultiWriter(os.Stdout, h), answer.Body)
	}
	if got := hex.EncodeToString(h.Sum(nil)); err == nil && sum != "" && sum != got {
		err = fmt.Errorf("the sum is %s", got)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// withDownloader puts it where drivers look for it.
func withDownloader(t *testing.T, remotes string) {
	t.Helper()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(remotes, "datastore/downloader.sh"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// market serves images.
func market(t *testing.T) (address string, raw []byte) {
	t.Helper()
	raw = bytes.Repeat([]byte("a disk of three megabytes and a bit "), 90_000)
	file := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := image.NewWriter(f, "qcow2", 40<<20)
	if err == nil {
		_, err = w.Write(raw)
	}
	if err == nil {
		err = w.Zeros(40<<20 - int64(len(raw)))
	}
	if err == nil {
		err = w.End()
	}
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/raw", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "raw", time.Time{}, bytes.NewReader(raw))
	})
	mux.HandleFunc("/qcow2", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	mux.HandleFunc("/breaks", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000000")
		w.Write(raw)
		panic(http.ErrAbortHandler)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL, raw
}

// An image with an address is fetched by OpenNebula's downloader, and its size asked for; one of which not all comes, or not what was said, leaves nothing.
func TestRemoteImages(t *testing.T) {
	tests.Root(t, "mounting a filesystem")
	location := cloud(t, "xfs", 512<<20)
	remotes := installed(t)
	withDownloader(t, remotes)
	address, raw := market(t)
	sum := md5.Sum(raw)
	ctx := context.Background()
	dump := func(path string) opennebula.Dump {
		d := opennebula.Dump{Remotes: remotes}
		d.Image.Path, d.Datastore.BasePath = path, filepath.Join(location, "101")
		return d
	}
	for path, size := range map[string]string{"/raw": "4\n", "/qcow2": "40\n"} {
		if got, err := stat(ctx, dump(address+path)); got != size || err != nil {
			t.Errorf("%s is of %q MiB, %v", path, got, err)
		}
	}
	d := dump(address + "/raw")
	d.Image.MD5 = hex.EncodeToString(sum[:])
	answer, err := take(ctx, d)
	source, format, _ := strings.Cut(strings.TrimSpace(answer), " ")
	if got, e := os.ReadFile(source); err != nil || e != nil || format != "raw" || !bytes.Equal(got, raw) {
		t.Errorf("%q, %v, %v", answer, err, e)
	}
	d = dump(address + "/qcow2")
	d.Datastore.Driver = "raw"
	answer, err = take(ctx, d)
	source, format, _ = strings.Cut(strings.TrimSpace(answer), " ")
	if got, e := os.ReadFile(source); err != nil || e != nil || format != "raw" || !bytes.HasPrefix(got, raw) || len(got) != 40<<20 {
		t.Errorf("%q of %d bytes, %v, %v", answer, len(got), err, e)
	}
	before, err := os.ReadDir(filepath.Join(location, "101"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := dump(address + "/raw")
	wrong.Image.MD5 = strings.Repeat("0", 32)
	for says, d := range map[string]opennebula.Dump{"the sum is": wrong, "404": dump(address + "/nothing"), "EOF": dump(address + "/breaks"), "refused": dump("http://127.0.0.1:1/x"), "neither an absolute path": dump("file:///etc/passwd")} {
		if _, err := take(ctx, d); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, without %q", d.Image.Path, err, says)
		}
	}
	if after, err := os.ReadDir(filepath.Join(location, "101")); err != nil || len(after) != len(before) {
		t.Errorf("left: %v, %v", after, err)
	}
	if _, err := stat(ctx, dump(address+"/nothing")); err == nil || !strings.Contains(err.Error(), "404") {
		t.Error(err)
	}
}

// What is to be restored on another host goes there with the task, and a disk that does not come whole is not replaced.
func TestRestoreOnOtherHost(t *testing.T) {
	host := otherHost(t)
	location := cloud(t, "btrfs", 512<<20)
	t.Setenv("SCRIPTS_REMOTE_DIR", installed(t))
	ctx := context.Background()
	disk := filepath.Join(location, "100/42/disk.0")
	if _, err := (task{Do: "make", To: disk, Format: "raw", Size: 8 << 20}).run(ctx); err != nil {
		t.Fatal(err)
	}
	restored := bytes.Repeat([]byte("restored"), 300_000)
	t1 := task{Do: "restore", From: filepath.Dir(disk), Restored: []datastore.Restored{{Disk: 0, Format: "raw"}}}
	t1.feed = func(_ context.Context, to *opennebula.Parts) error { return to.Send(bytes.NewReader(restored)) }
	if _, err := t1.at(ctx, host); err == nil {
		t.Error("half a disk is taken for a whole one")
	}
	t1.feed = func(context.Context, *opennebula.Parts) error { return fmt.Errorf("the backup is away") }
	if _, err := t1.at(ctx, host); err == nil || err.Error() != "the backup is away" {
		t.Error(err)
	}
	if st, err := os.Stat(disk); err != nil || st.Size() != 8<<20 {
		t.Errorf("%v, %v", st, err)
	}
	t1.feed = func(_ context.Context, to *opennebula.Parts) error {
		if err := to.Send(bytes.NewReader(restored)); err != nil {
			return err
		}
		return to.End()
	}
	if _, err := t1.at(ctx, host); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(disk); err != nil || !bytes.Equal(got, restored) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	locked(t, f)
	if _, err := t1.at(ctx, host); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
}
