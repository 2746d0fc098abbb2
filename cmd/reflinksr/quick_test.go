package main

import (
	"flag"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/tests"
	"reflinksr/scripts"
)

// slow are the scenarios that the quick command leaves to make long: each takes more than about
// three seconds of two processors, half of the time of them all together.
var slow = strings.Fields(`
	own_data_destroy_keeps_changed_blocks
	own_data_destroy_space
	own_device_always_taken_first
	own_device_given_to_others_is_not_blank
	own_device_sr_create_refused
	own_device_sr_destroy
	own_device_sr_killed
	own_device_sr_on_several_disks
	own_device_sr_probe
	own_device_that_does_not_answer
	own_device_that_is_not_blank
	own_device_that_overlaps_one_in_use
	own_disk_of_a_guest_by_tapdisk
	own_disk_of_a_guest_is_no_disk_of_the_host
	own_kernel_4_19_changed_blocks
	own_kernel_4_19_devices
	own_quota_of_many_groups
	own_recovery_interrupted_is_repeated
	own_space_runs_out_is_told
	own_sr_attach_by_many
	own_sr_on_sectors_of_4096_bytes
	own_volume_list_during_changes
	own_volume_lock_held
	volume_calls_during_attach
	volume_calls_killed_leave_nothing
`)

// everywhere are those that the quick command runs on each filesystem.
var everywhere = []string{"main_job"}

// quick picks what the quick command runs on the turn-th filesystem of two; see tests.Turn.
func quick(files []string, turn int) []string {
	if tests.All() {
		return files
	}
	named := func(names []string) func(file string) bool {
		return func(file string) bool { return slices.Contains(names, scenario(file)) }
	}
	both := slices.DeleteFunc(slices.Clone(files), func(file string) bool { return !named(everywhere)(file) })
	files = slices.DeleteFunc(slices.Clone(files), named(append(everywhere, slow...)))
	return append(both, tests.Turn(files, turn)...)
}

func scenario(file string) string { return strings.TrimSuffix(filepath.Base(file), ".txtar") }

// Of the two shares of the quick command one has each scenario that is not slow, and all that
// are named here are there.
func TestQuick(t *testing.T) {
	run := flag.Lookup("test.run").Value
	defer flag.Set("test.run", run.String())
	flag.Set("test.run", "") // by name all of them would be asked for
	t.Setenv("REFLINKSR_TESTS", "")
	files, err := scripts.Config{Own: true}.Select(t.TempDir(), every)
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for turn := range 2 {
		for _, file := range quick(files, turn) {
			times[scenario(file)]++
		}
	}
	for _, file := range files {
		name, want := scenario(file), 1
		if slices.Contains(slow, name) {
			want = 0
		}
		if slices.Contains(everywhere, name) {
			want = 2
		}
		if times[name] != want {
			t.Errorf("%s runs on %d filesystems, want %d", name, times[name], want)
		}
		delete(times, name)
	}
	for _, name := range append(everywhere, slow...) {
		if !slices.ContainsFunc(files, func(file string) bool { return scenario(file) == name }) {
			t.Errorf("there is no scenario %s", name)
		}
	}
}
