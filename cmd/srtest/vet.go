package main

import (
	"encoding/json"
	"fmt"

	"reflinksr/scripts"
)

// vet is srtest vet.
func (o *options) vet() error {
	files, err := find(scripts.Config{}, "", o.match, o.scripts)
	if err != nil {
		return err
	}
	found := 0
	for _, file := range files {
		all, err := scripts.Vet(file)
		if err != nil {
			return err
		}
		found += len(all)
		if !o.json {
			scripts.PrintMistakes(o.out, all)
			continue
		}
		for _, m := range all {
			if err := json.NewEncoder(o.out).Encode(m); err != nil {
				return err
			}
		}
	}
	if found > 0 {
		return fmt.Errorf("%d mistakes in %d scenarios", found, len(files))
	}
	return nil
}
