package record

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A writer keeps the members that it does not know.
func TestRecordKeepsUnknown(t *testing.T) {
	type known struct {
		Name string `json:"name"`
	}
	var k known
	all, err := Decode([]byte(`{"name":"a","colour":{"r":1},"big":12345678901234567890}`), &k)
	if err != nil {
		t.Fatal(err)
	}
	k.Name = "b"
	data, err := Encode(&k, all)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(data), `{"big":12345678901234567890,"colour":{"r":1},"name":"b"}`+"\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, bad := range []string{"", "null", "[]", `"x"`, "{", `{"name":1}`, `{"name":"a"} x`} {
		if _, err := Decode([]byte(bad), &k); err == nil {
			t.Errorf("%q is taken for a record", bad)
		}
	}
}

// What a writer does not change stays as it was written, byte by byte.
func TestRecordKeepsBytes(t *testing.T) {
	type known struct {
		Name string            `json:"name"`
		Text string            `json:"text"`
		Keys map[string]string `json:"keys"`
		Part struct {
			C string `json:"c"`
			D string `json:"d"`
		} `json:"part"`
		Whole *struct{} `json:"whole"`
		Left  bool      `json:"left,omitempty"`
	}
	for _, tt := range []struct {
		was  string
		edit func(k *known)
		want string
	}{
		{"{\"text\":\"\xff\\ud800\",\"keys\":{\"\xff\":\"1\",\"a\":\"\xfe\"},\"\xfd\":1.10 , \"name\":\"a\"}",
			func(k *known) { k.Name = "b" },
			"{\"keys\":{\"\xff\":\"1\",\"a\":\"\xfe\"},\"name\":\"b\",\"part\":{\"c\":\"\",\"d\":\"\"},\"text\":\"\xff\\ud800\",\"whole\":null,\"\xfd\":1.10}"},
		{"{\"keys\":{\"\xff\":\"1\",\"a\":\"\xfe\",\"b\":\"\xfd\",\"a\":\"\xfc\"},\"part\":{\"c\":\"\xfb\",\"d\":\"\xfa\",\"e\":\"\xf9\"}}",
			func(k *known) { k.Keys["b"] = "2"; k.Keys["n"] = "3"; k.Part.C = "4" },
			"{\"keys\":{\"a\":\"\xfe\",\"a\":\"\xfc\",\"b\":\"2\",\"n\":\"3\",\"\xff\":\"1\"},\"name\":\"\",\"part\":{\"c\":\"4\",\"d\":\"\xfa\",\"e\":\"\xf9\"},\"text\":\"\",\"whole\":null}"},
		{"{\"keys\":{\"a\":\"1\",\"b\":\"\xff\"},\"name\":\"\xff\",\"name\":\"x\",\"left\":false}",
			func(k *known) { delete(k.Keys, "a"); k.Name = "y" },
			"{\"keys\":{\"b\":\"\xff\"},\"left\":false,\"name\":\"y\",\"part\":{\"c\":\"\",\"d\":\"\"},\"text\":\"\",\"whole\":null}"},
	} {
		var k known
		all, err := Decode([]byte(tt.was), &k)
		if err != nil {
			t.Fatal(err)
		}
		tt.edit(&k)
		got, err := Encode(&k, all)
		if want := tt.want + "\n"; err != nil || string(got) != want {
			t.Errorf("%q, %v\nwant %q", got, err, want)
		}
	}
}

// A change of a record takes time as its members are many, not as their square: a volume
// can have tens of thousands of keys, and is locked meanwhile.
func TestRecordOfManyMembers(t *testing.T) {
	type known struct {
		Name string            `json:"name"`
		Keys map[string]string `json:"keys"`
	}
	const many = 30000
	var was, want bytes.Buffer
	for i := range many { // unknown to the record itself, and its keys
		fmt.Fprintf(&was, "\"u%06d\": \"\xff\",", i)
	}
	was.WriteString(`"keys":{`)
	for i := range many {
		fmt.Fprintf(&was, "\"k%06d\":\"\xff\",", i)
	}
	text := "{" + was.String() + `"z":""},"name":"a"}`
	want.WriteString(`{"keys":{"k000000":"changed"`)
	for i := 2; i < many; i++ {
		fmt.Fprintf(&want, ",\"k%06d\":\"\xff\"", i)
	}
	want.WriteString(`,"new":"","z":""},"name":"b"`)
	for i := range many {
		fmt.Fprintf(&want, ",\"u%06d\":\"\xff\"", i)
	}
	want.WriteString("}\n")
	done := make(chan error, 1)
	go func() {
		var k known
		all, err := Decode([]byte(text), &k)
		if err != nil {
			done <- err
			return
		}
		k.Name, k.Keys["k000000"], k.Keys["new"] = "b", "changed", ""
		delete(k.Keys, "k000001")
		got, err := Encode(&k, all)
		if err == nil && !bytes.Equal(got, want.Bytes()) {
			err = fmt.Errorf("%d bytes that are others than wanted: %.200q", len(got), got)
		}
		done <- err
	}()
	// On a machine that is busy with other things it takes longer, but no more of the processor.
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			t.Fatal(err)
		}
		if took := time.Duration(used.Utime.Nano()); took > time.Minute {
			t.Fatalf("a record of %d keys, and as many unknown members, is not changed in %v", many, took)
		}
	}
}
