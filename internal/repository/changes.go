package repository

import (
	"context"

	"reflinksr/snapshot/cbt"
)

// Changes is where two volumes may differ, by the byte.
type Changes struct {
	A       Key        `json:"a"`
	B       Key        `json:"b"`
	Related bool       `json:"related"` // they come from one volume
	Size    int64      `json:"size"`    // bytes, of the longer one
	Bytes   int64      `json:"bytes"`   // in all ranges
	Ranges  [][2]int64 `json:"ranges"`  // offset and length in bytes
}

// ChangesTo tells what has changed from the volume to another of its SR. Unlike Compare it
// wants both to be there: fault.ErrVolumeNotFound.
func (v Volume) ChangesTo(ctx context.Context, b Key) (Changes, error) {
	c := Changes{A: v.Key, B: b, Ranges: [][2]int64{}}
	other := Volume{v.SR, b}
	for _, w := range []Volume{v, other} {
		st, err := w.Stat(ctx)
		if err != nil {
			return c, err
		}
		c.Size = max(c.Size, st.VirtualSize)
	}
	related, err := cbt.Related(string(v.SR), v.Key, b)
	if err != nil {
		return c, err
	}
	c.Related = related
	list, err := other.Compare(ctx, v.Key)
	if err != nil {
		return c, err
	}
	for _, r := range list.Ranges {
		start := r[0] * list.BlockSize
		length := min(r[1]*list.BlockSize, c.Size-start)
		c.Ranges = append(c.Ranges, [2]int64{start, length})
		c.Bytes += length
	}
	return c, nil
}
