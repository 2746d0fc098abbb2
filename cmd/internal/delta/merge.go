package delta

import (
	"errors"
	"fmt"
	"io"
)

// OfStream is what is wrong with one of several streams.
type OfStream struct {
	Index int // of the stream
	Err   error
}

func (o *OfStream) Error() string { return o.Err.Error() }

func (o *OfStream) Unwrap() error { return o.Err }

// layer is one of several streams, and the record of it that is not passed yet.
type layer struct {
	r     *Reader
	now   Record // of no length after the last one
	limit int64  // what it says of the disk from there on no longer holds: it was shorter since
}

// next reads on to the record that ends behind a place in the disk.
func (l *layer) next(at int64) error {
	for l.now.Offset+l.now.Length <= at {
		rec, err := l.r.Next()
		if err == io.EOF {
			l.now = Record{Offset: MaxSize}
			return nil
		}
		if err != nil {
			return err
		}
		l.now = rec
	}
	return nil
}

func (l *layer) end() int64 { return min(l.now.Offset+l.now.Length, l.limit) }

// Merge reads streams of which the first is of a whole disk, and each other of what has changed since the one before it, and calls
// do with the records of the disk that they make together: in order, and nothing is left out. It reads every stream to its end, once,
// side by side, and holds a record of each. The error is an *OfStream, or of do.
func Merge(streams []*Reader, do func(Record) error) error {
	layers, err := layered(streams)
	if err != nil {
		return err
	}
	size := streams[len(streams)-1].header.ToSize
	for at := int64(0); at < size; {
		top, stop := -1, size
		for i := len(layers) - 1; i >= 0 && top < 0; i-- {
			l := layers[i]
			if at >= l.limit {
				continue
			}
			if err := l.next(at); err != nil {
				return &OfStream{i, err}
			}
			switch {
			case l.now.Offset <= at:
				top, stop = i, min(stop, l.end())
			case l.now.Offset < l.limit: // it covers what is below from there on
				stop = min(stop, l.now.Offset)
			}
		}
		piece := Record{Offset: at, Length: stop - at}
		if top >= 0 {
			if now := layers[top].now; now.Data != nil {
				piece.Data = now.Data[at-now.Offset : stop-now.Offset]
			}
		} // else nothing: the disk was shorter once, and is longer again
		if err := do(piece); err != nil {
			return err
		}
		at = stop
	}
	for i, l := range layers {
		for {
			_, err := l.r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return &OfStream{i, err}
			}
		}
	}
	return nil
}

// layered refuses streams that do not follow one another.
func layered(streams []*Reader) ([]*layer, error) {
	if len(streams) == 0 || !streams[0].header.Full() {
		return nil, &OfStream{0, errors.New("it is not of a whole disk")}
	}
	layers := make([]*layer, len(streams))
	for i, r := range streams {
		if i > 0 {
			if before := streams[i-1].header; r.header.From != before.To || r.header.FromSize != before.ToSize {
				return nil, &OfStream{i, fmt.Errorf("it is what has changed since volume %s of %d bytes, and the one before it makes %s of %d", r.header.From, r.header.FromSize, before.To, before.ToSize)}
			}
		}
		layers[i] = &layer{r: r, limit: MaxSize}
		for _, above := range streams[i:] {
			layers[i].limit = min(layers[i].limit, above.header.ToSize)
		}
	}
	return layers, nil
}
