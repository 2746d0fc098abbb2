package delta_test

import (
	"bytes"
	"fmt"
	"io"
	"log"

	"reflinksr/cmd/internal/delta"
)

// What a disk of three blocks has that its snapshot has not: written to a stream, and read
// again as whoever applies it does.
func Example() {
	var stream bytes.Buffer
	w, err := delta.NewWriter(&stream, delta.Header{
		From: "11111111-1111-4111-8111-111111111111", FromSize: 3 * delta.BlockSize,
		To: "22222222-2222-4222-8222-222222222222", ToSize: 3 * delta.BlockSize,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Data(0, bytes.Repeat([]byte("new "), delta.BlockSize/4)); err != nil {
		log.Fatal(err)
	}
	if err := w.Zeros(2*delta.BlockSize, delta.BlockSize); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	r, err := delta.NewReader(&stream)
	if err != nil {
		log.Fatal(err)
	}
	for {
		record, err := r.Next()
		if err == io.EOF { // only now the stream is known to be whole
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("at %d: %d bytes, zeros: %v\n", record.Offset, record.Length, record.Data == nil)
	}
	fmt.Println("whole")
	// Output:
	// at 0: 4096 bytes, zeros: false
	// at 8192: 4096 bytes, zeros: true
	// whole
}

// A stream of which a part is missing is never taken for a whole one.
func ExampleReader_Next_damage() {
	var stream bytes.Buffer
	w, _ := delta.NewWriter(&stream, delta.Header{To: "22222222-2222-4222-8222-222222222222", ToSize: delta.BlockSize})
	w.Zeros(0, delta.BlockSize)
	w.Close()
	stream.Truncate(stream.Len() - 1)

	r, _ := delta.NewReader(&stream)
	_, err := r.Next()
	fmt.Println("the first record:", err)
	_, err = r.Next()
	fmt.Println(err)
	// Output:
	// the first record: <nil>
	// the stream is damaged at byte 171: it ends there, before its end record: the export was interrupted, or a part of it is lost
}
