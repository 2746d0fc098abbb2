package image

// raw is a part of a file that holds a disk, or a part of one, as it is.
type raw struct {
	f             *file
	begin, length int64 // bytes
}

func (r *raw) size() int64 { return r.length }

func (r *raw) at(offset, _ int64) (span, error) { return r.f.plain(r.begin+offset, r.length-offset) }
