package dirfs

import (
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// What a directory with many small files costs is what the kernel is asked about each of them. One by one each is opened
// with the same care as by Open, which takes ten calls; many together, six.

const (
	pairsAtOnce  = 128      // files that a reader has open at once, by two descriptors each
	pairsReaders = 4        // at most
	pairLimit    = 64 << 10 // bytes of a file that is read so
)

// ReadPairs reads n files, none of which is ever changed in place, and looks at the file that is beside each. names gives the
// names of both. got is given what the first holds, and what the other is like, in a moment in which both were there; it is
// called for several at the same time, and may keep neither.
//
// For what is not plain (absent, refused, large, replaced just then, on a server) it is not called: Read and Stat say what is
// the matter.
func (d *Dir) ReadPairs(n int, names func(i int) (file, beside string), got func(i int, data []byte, beside *unix.Stat_t)) {
	if d.Remote() {
		return
	}
	readers := min(runtime.GOMAXPROCS(0), pairsReaders, 1+n/pairsAtOnce)
	var wait sync.WaitGroup
	var turn sync.Mutex
	for r := range readers {
		wait.Go(func() {
			b := batch{d: d, names: names, got: got, turn: &turn, buffer: make([]byte, pairLimit)}
			b.read(r*n/readers, (r+1)*n/readers)
		})
	}
	wait.Wait()
}

// batch is some files at a time of those that a reader reads.
type batch struct {
	d      *Dir
	names  func(i int) (file, beside string)
	got    func(i int, data []byte, beside *unix.Stat_t)
	buffer []byte

	turn   *sync.Mutex // who has it opens files, so that numbers of one batch follow each other
	opened []int       // descriptors
	files  []pair
}

// pair is the i-th file.
type pair struct {
	i      int
	place  int // by which it is open (O_PATH); -1: it is none that Open accepts
	fd     int // to be read; -1 until then
	size   int64
	beside unix.Stat_t
}

func (b *batch) read(from, to int) {
	anew, err := sys.Retry(func() (int, error) {
		return unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return
	}
	defer unix.Close(anew)
	for ; from < to; from += pairsAtOnce {
		b.open(from, min(from+pairsAtOnce, to))
		b.look(anew)
		b.openAnew(anew)
		for k := range b.files {
			if data, ok := b.files[k].read(b.buffer); ok {
				b.got(b.files[k].i, data, &b.files[k].beside)
			}
		}
		b.close()
	}
}

// open opens the files, by their places only.
func (b *batch) open(from, to int) {
	b.files = b.files[:0]
	b.turn.Lock()
	defer b.turn.Unlock()
	for i := from; i < to; i++ {
		file, _ := b.names(i)
		fd, err := unix.Openat(b.d.Fd(), file, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			b.opened = append(b.opened, fd)
			b.files = append(b.files, pair{i: i, place: fd, fd: -1})
		}
	}
}

// look does with all what Open does with one: it looks what each is, and then whether it still has its name; and in between
// at what is beside it. anew is the directory of descriptors.
func (b *batch) look(anew int) {
	for k := range b.files {
		p := &b.files[k]
		file, _ := b.names(p.i)
		var st unix.Stat_t
		if unix.Fstat(p.place, &st) != nil || b.d.acceptable(file, &st) != nil || st.Size >= pairLimit {
			p.place = -1
		}
		p.size = st.Size
	}
	b.d.settle()
	here, err := b.d.Real()
	for k := range b.files {
		p := &b.files[k]
		file, beside := b.names(p.i)
		if err != nil || p.place < 0 || unix.Fstatat(b.d.Fd(), beside, &p.beside, unix.AT_SYMLINK_NOFOLLOW) != nil || b.d.acceptable(beside, &p.beside) != nil || !p.isAt(here, file, anew) {
			p.place = -1
		}
	}
}

// isAt says whether the file still has the name in the directory that is at here.
func (p *pair) isAt(here, name string, anew int) bool {
	var text [unix.PathMax]byte
	n, err := unix.Readlinkat(anew, strconv.Itoa(p.place), text[:])
	link := text[:max(n, 0)]
	return err == nil && n == len(here)+1+len(name) && string(link[:len(here)]) == here && link[len(here)] == '/' && string(link[len(here)+1:]) == name
}

// openAnew opens what has been looked at, to be read.
func (b *batch) openAnew(anew int) {
	b.turn.Lock()
	defer b.turn.Unlock()
	for k := range b.files {
		p := &b.files[k]
		if p.place < 0 {
			continue
		}
		fd, err := unix.Openat(anew, strconv.Itoa(p.place), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			b.opened = append(b.opened, fd)
			p.fd = fd
		}
	}
}

func (p *pair) read(buffer []byte) ([]byte, bool) {
	if p.fd < 0 {
		return nil, false
	}
	n, err := unix.Read(p.fd, buffer[:p.size+1])
	return buffer[:max(n, 0)], err == nil && int64(n) == p.size
}

// close closes descriptors that follow each other at once.
func (b *batch) close() {
	slices.Sort(b.opened)
	for i := 0; i < len(b.opened); {
		end := i + 1
		for end < len(b.opened) && b.opened[end] == b.opened[end-1]+1 {
			end++
		}
		if unix.CloseRange(uint(b.opened[i]), uint(b.opened[end-1]), 0) != nil { // before Linux 5.9
			for _, fd := range b.opened[i:end] {
				unix.Close(fd)
			}
		}
		i = end
	}
	b.opened = b.opened[:0]
}
