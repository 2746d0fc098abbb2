package formats

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"reflinksr/internal/reflink"
	"reflinksr/sr"
)

// An archive is the directory of an SR as text: a txtar file in which each section is a
// file. The section's name has what kind it is, its mode, and its path:
//
//	dir 0700 .reflinksr/leases     a directory
//	text 0600 sr.json              a file that is text
//	line 0600 .reflinksr/leases/…  one that is one line, without a newline at its end
//	base64 0600 .reflinksr/cbt/…   any other file
//	data 0600 <uuid>               a disk: its size in bytes, whether it is nodatacow, and of
//	                               what blocks it consists; those that it does not name are holes
//	want                           what must be found in it (see expectation)
//
// A block of a disk is one label of 16 bytes again and again. Blocks with the same number
// and the same label are shared.
type archive struct {
	comment []byte
	entries []entry
	want    expectation
}

type entry struct {
	kind string // dir, text, line, base64 or data
	mode os.FileMode
	path string
	body []byte
}

// blockSize is that of a disk's blocks, in bytes: in these changed blocks are told.
const blockSize = 64 << 10

// contents is a disk's data: the labels of its blocks by number.
type contents struct {
	Size   int64
	NoCOW  bool
	Blocks map[int]string
}

// label is what a block consists of.
func label(text string) string { return fmt.Sprintf("%-15.15s\n", text) }

// block is what the disk has at a number; the last one may be shorter.
func (c contents) block(n int) []byte {
	length := min(blockSize, c.Size-int64(n)*blockSize)
	text, ok := c.Blocks[n]
	if !ok {
		return make([]byte, length)
	}
	return bytes.Repeat([]byte(label(text)), blockSize/16)[:length]
}

func (c contents) count() int { return int((c.Size + blockSize - 1) / blockSize) }

// differ says in which way r does not hold the disk.
func (c contents) differ(r interface {
	ReadAt([]byte, int64) (int, error)
}) string {
	got := make([]byte, blockSize)
	for n := range c.count() {
		want := c.block(n)
		if _, err := r.ReadAt(got[:len(want)], int64(n)*blockSize); err != nil {
			return fmt.Sprintf("block %d: %v", n, err)
		}
		if !bytes.Equal(got[:len(want)], want) {
			return fmt.Sprintf("block %d is %.16q…, want %.16q…", n, got, want)
		}
	}
	return ""
}

// text is the disk as in an archive.
func (c contents) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "size %d\n", c.Size)
	if c.NoCOW {
		b.WriteString("nodatacow\n")
	}
	for n := range c.count() {
		if text, ok := c.Blocks[n]; ok {
			fmt.Fprintf(&b, "%d %s\n", n, text)
		}
	}
	return b.Bytes()
}

func parseContents(body []byte) (c contents, err error) {
	c.Blocks = map[int]string{}
	for line := range strings.Lines(string(body)) {
		what, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		var n int
		switch {
		case what == "size":
			c.Size, err = strconv.ParseInt(rest, 10, 64)
		case what == "nodatacow":
			c.NoCOW = true
		default:
			n, err = strconv.Atoi(what)
			c.Blocks[n] = rest
		}
		if err != nil {
			return c, fmt.Errorf("%q: %w", line, err)
		}
	}
	return c, nil
}

// readContents looks what a disk consists of.
func readContents(path string) (c contents, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return c, err
	}
	attrs, err := reflink.AttributesOf(f)
	c = contents{Size: st.Size(), NoCOW: attrs.NoCOW, Blocks: map[int]string{}}
	head := make([]byte, 16)
	for n := range c.count() {
		if _, e := f.ReadAt(head, int64(n)*blockSize); e != nil {
			return c, e
		}
		if text := strings.TrimRight(string(head), " \n\x00"); text != "" {
			c.Blocks[n] = text
		}
	}
	if wrong := c.differ(f); wrong != "" {
		err = errors.Join(err, fmt.Errorf("%s: %s", path, wrong))
	}
	return c, err
}

// take reads the SR in a directory into an archive.
func take(dir string) (a *archive, err error) {
	a = new(archive)
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{kind: "dir", mode: info.Mode().Perm(), path: strings.TrimPrefix(name, dir+"/")}
		if !d.IsDir() {
			if e.kind, e.body, err = takeFile(name); err != nil {
				return err
			}
		}
		a.entries = append(a.entries, e)
		return nil
	})
	return a, err
}

// isData says whether the file of a name is a disk's: a volume's, or one that is staged.
func isData(name string) bool {
	kind, ok := strings.CutPrefix(name, uuidIn(name))
	staged := kind == "" || kind == ".revert" || kind == ".composed" || strings.HasSuffix(kind, ".throwaway")
	return ok && uuidIn(name) != "" && staged
}

// uuidIn is the key that a name begins with.
func uuidIn(name string) string {
	if len(name) >= 36 {
		if _, err := sr.ParseKey(name[:36]); err == nil {
			return name[:36]
		}
	}
	return ""
}

func takeFile(name string) (kind string, body []byte, err error) {
	dir := filepath.Base(filepath.Dir(name))
	if isData(filepath.Base(name)) && dir != "locks" && dir != "leases" && dir != "cbt" {
		c, err := readContents(name)
		return "data", c.text(), err
	}
	body, err = os.ReadFile(name)
	if len(body) == 0 || utf8.Valid(body) && bytes.HasSuffix(body, []byte("\n")) && !bytes.ContainsRune(body, '\r') {
		return "text", body, err
	}
	if utf8.Valid(body) && !bytes.ContainsAny(body, "\n\r") {
		return "line", append(body, '\n'), err
	}
	return "base64", append([]byte(base64.StdEncoding.EncodeToString(body)), '\n'), err
}

// file is what a file that is no disk holds.
func (e entry) file() ([]byte, error) {
	switch e.kind {
	case "base64":
		return base64.StdEncoding.DecodeString(strings.TrimSpace(string(e.body)))
	case "line":
		return bytes.TrimSuffix(e.body, []byte("\n")), nil
	}
	return e.body, nil
}

// write writes the archive to a file.
func (a *archive) write(name string) error {
	want, err := json.MarshalIndent(a.want, "", "  ")
	if err != nil {
		return err
	}
	t := &txtar.Archive{Comment: a.comment, Files: []txtar.File{{Name: "want", Data: append(want, '\n')}}}
	for _, e := range a.entries {
		t.Files = append(t.Files, txtar.File{Name: fmt.Sprintf("%s %04o %s", e.kind, e.mode, e.path), Data: e.body})
	}
	return os.WriteFile(name, txtar.Format(t), 0o644)
}

func readArchive(name string) (*archive, error) {
	t, err := txtar.ParseFile(name)
	if err != nil {
		return nil, err
	}
	a := &archive{comment: t.Comment}
	for _, f := range t.Files {
		if f.Name == "want" {
			if err := json.Unmarshal(f.Data, &a.want); err != nil {
				return nil, fmt.Errorf("%s: want: %w", name, err)
			}
			continue
		}
		parts := strings.SplitN(f.Name, " ", 3)
		if len(parts) != 3 || !slices.Contains([]string{"dir", "text", "line", "base64", "data"}, parts[0]) {
			return nil, fmt.Errorf("%s: section %q: want KIND MODE PATH", name, f.Name)
		}
		mode, err := strconv.ParseUint(parts[1], 8, 9)
		if err != nil {
			return nil, fmt.Errorf("%s: section %q: %w", name, f.Name, err)
		}
		a.entries = append(a.entries, entry{parts[0], os.FileMode(mode), parts[2], f.Data})
	}
	return a, nil
}

// put makes the SR in the directory dir, which must not be there yet.
func (a *archive) put(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	first := map[string]string{} // the file that has a block, by number and label
	for _, e := range a.entries {
		name := filepath.Join(dir, e.path)
		body, err := e.file()
		switch {
		case err != nil:
		case e.kind == "dir":
			err = os.Mkdir(name, e.mode)
		case e.kind == "data":
			err = putData(name, e, first)
		default:
			err = os.WriteFile(name, body, e.mode)
		}
		if err == nil {
			err = os.Chmod(name, e.mode)
		}
		if err != nil {
			return err
		}
	}
	return recognize(dir)
}

func putData(name string, e entry, first map[string]string) (err error) {
	c, err := parseContents(e.body)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if e.mode == 0o600 { // else it is somebody's, adopted as it was
		if err := (reflink.Attributes{NoCOW: c.NoCOW}).Apply(f); err != nil {
			return err
		}
	}
	if err := f.Truncate(c.Size); err != nil {
		return err
	}
	for n, text := range c.Blocks {
		at, id := int64(n)*blockSize, fmt.Sprint(n, " ", text)
		if from := first[id]; from != "" {
			if err := share(f, from, at); err != nil {
				return err
			}
			continue
		}
		if _, err := f.WriteAt(c.block(n), at); err != nil {
			return err
		}
		if len(c.block(n)) == blockSize {
			first[id] = name
		}
	}
	return f.Sync()
}

// share gives f the block that another file has at the same place.
func share(f *os.File, from string, at int64) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	err = unix.IoctlFileCloneRange(int(f.Fd()), &unix.FileCloneRange{Src_fd: int64(src.Fd()), Src_offset: uint64(at), Src_length: blockSize, Dest_offset: uint64(at)})
	if err != nil {
		return fmt.Errorf("sharing a block of %s with %s: %w", f.Name(), from, err)
	}
	return nil
}

// recognize makes the list of an interrupted SR.destroy tell of the files as they are
// here: their inodes and times of change are others than those where the SR was.
func recognize(dir string) error {
	name := filepath.Join(dir, ".reflinksr", "doomed")
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list := map[string]map[string]any{}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for file, id := range list {
		var st unix.Stat_t
		switch err := unix.Lstat(filepath.Join(dir, file), &st); {
		case err == unix.ENOENT: // it was removed before the end
			continue
		case err != nil:
			return err
		}
		if len(id) != 2 || id["ino"] == nil || id["changed"] == nil {
			return fmt.Errorf("%s: %s: this test knows ino and changed only, and it has %v", name, file, id)
		}
		id["ino"], id["changed"] = st.Ino, st.Ctim.Nano()
	}
	if data, err = json.Marshal(list); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}
