package image

import "sort"

// parts is a disk that is put together of others, one after the other.
type parts struct {
	ends []int64 // where each ends in the disk
	of   []layer // nil: zeros
}

func (p *parts) add(l layer, length int64) {
	p.ends, p.of = append(p.ends, p.size()+length), append(p.of, l)
}

func (p *parts) size() int64 {
	if len(p.ends) == 0 {
		return 0
	}
	return p.ends[len(p.ends)-1]
}

func (p *parts) at(offset, most int64) (span, error) {
	i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > offset })
	begin, left := int64(0), p.ends[i]-offset
	if i > 0 {
		begin = p.ends[i-1]
	}
	l := p.of[i]
	if l == nil || offset-begin >= l.size() {
		return span{length: left, kind: zeros}, nil
	}
	s, err := l.at(offset-begin, most)
	s.length = min(s.length, left, l.size()-(offset-begin))
	return s, err
}
