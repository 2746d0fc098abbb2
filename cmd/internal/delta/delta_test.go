package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"reflinksr/internal/repository"
)

const (
	keyA = "11111111-2222-4333-8444-555555555555"
	keyB = "66666666-7777-4888-8999-aaaaaaaaaaaa"
)

var header = Header{From: keyA, To: keyB, FromSize: 1 << 20, ToSize: 4 << 20}

// stream writes a stream of the blocks: 'z' zeros, '.' nothing, else data of that byte.
func stream(t testing.TB, h Header, blocks string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	for i, c := range blocks {
		offset := int64(i) * BlockSize
		if err == nil && c == 'z' {
			err = w.Zeros(offset, BlockSize)
		} else if err == nil && c != '.' {
			err = w.Data(offset, bytes.Repeat([]byte{byte(c)}, BlockSize))
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read reads a stream to its end, into blocks as stream takes them.
func read(data []byte) (blocks string, h Header, err error) {
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		return "", h, err
	}
	var b strings.Builder
	for {
		rec, err := r.Next()
		if err != nil {
			return b.String(), r.Header(), err
		}
		for int64(b.Len()) < rec.Offset/BlockSize {
			b.WriteByte('.')
		}
		for i := int64(0); i < rec.Length; i += BlockSize {
			if rec.Data == nil {
				b.WriteByte('z')
			} else {
				b.WriteByte(rec.Data[i])
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	full := Header{To: keyB, ToSize: 8 * BlockSize}
	for _, c := range []struct {
		h      Header
		blocks string
	}{
		{header, ""}, {header, "a"}, {header, "..ab.zz.c"}, {header, "zzzz"}, {header, "z.z"},
		{full, "abzzzzcz"}, {full, "zzzzzzzz"}, {Header{To: keyA}, ""},
	} {
		got, h, err := read(stream(t, c.h, c.blocks))
		if err != io.EOF || h != c.h || got != c.blocks {
			t.Errorf("%q of %v is read as %q of %v, %v", c.blocks, c.h, got, h, err)
		}
	}
	if n := len(stream(t, full, "zzzzzzzz")); n != headerSize+2*recordSize {
		t.Errorf("zeros that follow each other take %d bytes", n)
	}
}

// A writer does not write what a reader would refuse.
func TestWriterRefuses(t *testing.T) {
	for name, write := range map[string]func(*Writer) error{
		"half a block":  func(w *Writer) error { return w.Data(0, make([]byte, BlockSize/2)) },
		"nothing":       func(w *Writer) error { return w.Data(0, nil) },
		"odd place":     func(w *Writer) error { return w.Data(1, make([]byte, BlockSize)) },
		"too much":      func(w *Writer) error { return w.Data(0, make([]byte, MaxData+BlockSize)) },
		"after the end": func(w *Writer) error { return w.Data(header.ToSize, make([]byte, BlockSize)) },
		"backwards": func(w *Writer) error {
			return errors.Join(w.Data(BlockSize, make([]byte, BlockSize)), w.Data(0, make([]byte, BlockSize)))
		},
		"zeros after the end": func(w *Writer) error { return errors.Join(w.Zeros(header.ToSize, BlockSize), w.Close()) },
	} {
		w, err := NewWriter(io.Discard, header)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(w); err == nil {
			t.Errorf("%s is written", name)
		}
	}
}

// Any byte that is lost, changed or added is noticed, wherever it is.
func TestEveryByteCounts(t *testing.T) {
	whole := stream(t, header, "..ab.zz.c")
	damaged := func(what string, i int, data []byte) {
		if _, _, err := read(data); !errors.As(err, new(*Damage)) && !errors.Is(err, ErrVersion) {
			t.Errorf("byte %d %s: %v", i, what, err)
		}
	}
	for i := range whole {
		damaged("and the rest cut off", i, whole[:i])
		changed := bytes.Clone(whole)
		changed[i] ^= 0x20
		damaged("changed", i, changed)
	}
	damaged("added", len(whole), append(bytes.Clone(whole), 0))
}

// Records that are whole, but lost, repeated or of another stream, are noticed.
func TestRecordsBelongTogether(t *testing.T) {
	const record = recordSize + BlockSize
	whole := stream(t, header, "abcd")
	parts := [][]byte{whole[:headerSize]}
	for i := range 4 {
		parts = append(parts, whole[headerSize+i*record:headerSize+(i+1)*record])
	}
	parts = append(parts, whole[headerSize+4*record:])
	other := stream(t, Header{From: keyB, To: keyA, FromSize: 1 << 20, ToSize: 4 << 20}, "abcd")
	for name, data := range map[string][]byte{
		"lost":              bytes.Join([][]byte{parts[0], parts[1], parts[3], parts[4], parts[5]}, nil),
		"none":              bytes.Join([][]byte{parts[0], parts[5]}, nil),
		"repeated":          bytes.Join([][]byte{parts[0], parts[1], parts[1], parts[2], parts[3], parts[4], parts[5]}, nil),
		"of another stream": append(bytes.Clone(whole[:headerSize]), other[headerSize:]...),
	} {
		if blocks, _, err := read(data); !errors.As(err, new(*Damage)) {
			t.Errorf("%s: %q, %v", name, blocks, err)
		}
	}
}

// A stream whose checksums are right may still say what makes no sense.
func TestNonsense(t *testing.T) {
	const most = 1 << 63
	record := func(h Header, records ...[3]uint64) []byte {
		data := h.encode()
		sum := data[112:116]
		for _, r := range records {
			head := binary.LittleEndian.AppendUint64([]byte(kindZero), r[0])
			if r[2] != 0 {
				head = binary.LittleEndian.AppendUint64([]byte(kindEnd), r[0])
			}
			head = binary.LittleEndian.AppendUint64(head, r[1])
			head = append(head, 0, 0, 0, 0)
			sum = binary.LittleEndian.AppendUint32(nil, crc32.Checksum(append(bytes.Clone(sum), head...), castagnoli))
			data = append(append(data, head...), sum...)
		}
		return data
	}
	full := Header{To: keyB, ToSize: 4 * BlockSize}
	if _, _, err := read(record(full, [3]uint64{0, 4 * BlockSize}, [3]uint64{1, 4 * BlockSize, 1})); err != io.EOF {
		t.Fatal("what makes sense is refused: ", err)
	}
	for name, data := range map[string][]byte{
		"after the end":        record(header, [3]uint64{uint64(header.ToSize), BlockSize}),
		"across the end":       record(header, [3]uint64{uint64(header.ToSize) - BlockSize, 2 * BlockSize}),
		"beyond all":           record(header, [3]uint64{most - BlockSize, BlockSize}),
		"overflow":             record(header, [3]uint64{BlockSize, most - BlockSize}),
		"negative":             record(header, [3]uint64{1<<64 - BlockSize, BlockSize}),
		"odd":                  record(header, [3]uint64{0, 1}),
		"empty":                record(header, [3]uint64{0, 0}),
		"overlapping":          record(header, [3]uint64{0, 2 * BlockSize}, [3]uint64{BlockSize, BlockSize}),
		"a full one with gaps": record(full, [3]uint64{BlockSize, 3 * BlockSize}),
		"a full one cut short": record(full, [3]uint64{0, 3 * BlockSize}, [3]uint64{1, 3 * BlockSize, 1}),
		"wrong count":          record(header, [3]uint64{0, BlockSize}, [3]uint64{2, BlockSize, 1}),
		"wrong sum":            record(header, [3]uint64{0, BlockSize}, [3]uint64{1, 2 * BlockSize, 1}),
		"too large":            Header{From: keyA, To: keyB, FromSize: BlockSize, ToSize: MaxSize + BlockSize}.encode(),
		"odd size":             Header{From: keyA, To: keyB, FromSize: BlockSize, ToSize: 1}.encode(),
		"full, with a past":    Header{To: keyB, FromSize: BlockSize, ToSize: BlockSize}.encode(),
		"no key":               Header{From: repository.Key(strings.Repeat(".", keySize)), To: keyB}.encode(),
	} {
		if blocks, _, err := read(data); !errors.As(err, new(*Damage)) || strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s: %q, %v", name, blocks, err)
		}
	}
}

// A stream that is continued after any whole record is the one that was not interrupted.
func TestContinue(t *testing.T) {
	blocks := "..ab.zz.c"
	whole := stream(t, header, blocks)
	for cut := headerSize; cut <= len(whole); cut += 97 {
		b := bytes.NewBuffer(bytes.Clone(whole[:cut]))
		r, err := NewReader(bytes.NewReader(whole[:cut]))
		for err == nil {
			_, err = r.Next()
		}
		if err == io.EOF {
			break
		}
		b.Truncate(int(r.Position()))
		w := r.Continue(b)
		for i, c := range blocks {
			offset := int64(i) * BlockSize
			err := error(nil)
			switch {
			case offset < w.End() || c == '.':
			case c == 'z':
				err = w.Zeros(offset, BlockSize)
			default:
				err = w.Data(offset, bytes.Repeat([]byte{byte(c)}, BlockSize))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), whole) {
			got, _, err := read(b.Bytes())
			t.Fatalf("cut at %d and continued it is %q, %v", cut, got, err)
		}
	}
}

// An error of the reader is not taken for damage.
func TestReadError(t *testing.T) {
	whole := stream(t, header, "ab")
	broken := errors.New("broken")
	for _, cut := range []int{0, 50, headerSize, headerSize + 40, len(whole)} {
		r, err := NewReader(io.MultiReader(bytes.NewReader(whole[:cut]), failing{broken}))
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", cut, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Whatever is read, records are in order, inside the disk, and no larger than promised; a
// stream that is whole is written again as it was.
func FuzzReader(f *testing.F) {
	f.Add(stream(f, header, "..ab.zz.c"))
	f.Add(stream(f, header, ""))
	f.Add(stream(f, Header{To: keyB, ToSize: 4 * BlockSize}, "azzb"))
	f.Add(stream(f, header, "ab")[:headerSize+recordSize+100])
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		w, err := NewWriter(&again, r.Header())
		if err != nil {
			t.Fatal(err)
		}
		end := int64(0)
		for {
			rec, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if rec.Offset < end || rec.Length <= 0 || rec.Offset+rec.Length > r.Header().ToSize || len(rec.Data) > MaxData {
				t.Fatalf("%d bytes at %d, after %d", rec.Length, rec.Offset, end)
			}
			end = rec.Offset + rec.Length
			if rec.Data == nil {
				err = errors.Join(w.flush(), w.Zeros(rec.Offset, rec.Length))
			} else {
				err = w.Data(rec.Offset, rec.Data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), data) {
			t.Fatal("it is written differently")
		}
	})
}
