package xfs

import (
	"strings"
	"testing"
)

// What mkfs.xfs of several versions says of itself, as far as it matters.
func TestMkfsOptions(t *testing.T) {
	for _, c := range []struct{ version, usage, args string }{
		{"4.5", `/* metadata */		[-m crc=0|1,finobt=0|1,uuid=xxx]
/* inode size */	[-i log=n|perblock=n|size=num,maxpct=n,attr=0|1|2,
			    projid32bit=0|1]`, ""},
		{"4.20", `/* metadata */		[-m crc=0|1,finobt=0|1,uuid=xxx,rmapbt=0|1,reflink=0|1]
/* inode size */	[-i log=n|perblock=n|size=num,maxpct=n,attr=0|1|2,
			    projid32bit=0|1,sparse=0|1]`, "-m reflink=1 -m rmapbt=0"},
		{"6.1", `/* metadata */		[-m crc=0|1,finobt=0|1,uuid=xxx,rmapbt=0|1,reflink=0|1,
			    inobtcount=0|1,bigtime=0|1]
/* inode size */	[-i perblock=n|size=num,maxpct=n,attr=0|1|2,
			    projid32bit=0|1,sparse=0|1,nrext64=0|1]
/* naming */		[-n size=num,version=2|ci,ftype=0|1]`, "-m reflink=1 -m rmapbt=0 -m inobtcount=0 -m bigtime=0 -i nrext64=0"},
		{"6.13", `/* metadata */		[-m crc=0|1,finobt=0|1,uuid=xxx,rmapbt=0|1,reflink=0|1,
			    inobtcount=0|1,bigtime=0|1,autofsck=xxx,
			    metadir=0|1]
/* inode size */	[-i perblock=n|size=num,maxpct=n,attr=0|1|2,
			    projid32bit=0|1,sparse=0|1,nrext64=0|1,
			    exchange=0|1]
/* naming */		[-n size=num,version=2|ci,ftype=0|1,parent=0|1]]`, "-m reflink=1 -m rmapbt=0 -m inobtcount=0 -m bigtime=0 -m metadir=0 -i nrext64=0 -i exchange=0 -n parent=0"},
		{"none", "", ""},
		{"another option", "[-m xreflink=0|1 reflinks=0|1 reflink=0|1|2]", ""},
	} {
		args, able := MkfsOptions(c.usage)
		if got := strings.Join(args, " "); got != c.args || able != strings.Contains(c.args, "reflink") {
			t.Errorf("%s: %q, %v", c.version, got, able)
		}
	}
}
