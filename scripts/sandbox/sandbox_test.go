package sandbox

import (
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"fsync":              {Call: "fsync", Errno: unix.EIO},
		"FICLONE=2":          {Call: "FICLONE", Errno: unix.EIO, Only: []int{2}},
		"LOOP_CONFIGURE=1,3": {Call: "LOOP_CONFIGURE", Errno: unix.EIO, Only: []int{1, 3}},
	} {
		if got, err := ParseFault("EIO", text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
	}
	if f, err := ParseFault("EOPNOTSUPP", "FICLONE"); err != nil || f.Errno != unix.EOPNOTSUPP {
		t.Errorf("%+v, %v", f, err)
	}
	for _, bad := range [][2]string{{"EIO", "fsnyc"}, {"EIO", "fsync="}, {"EIO", "fsync=0"}, {"EIO", "fsync=1,x"}, {"EIOU", "fsync"}, {"", "fsync"}} {
		if f, err := ParseFault(bad[0], bad[1]); err == nil {
			t.Errorf("%q is %+v", bad, f)
		}
	}
}
