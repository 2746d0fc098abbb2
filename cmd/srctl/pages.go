package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"reflinksr/cmd/internal/version"
)

// completion writes what a shell has to know to complete srctl's arguments: it asks srctl itself then.
func (s *session) completion() *cobra.Command {
	c := &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "write the shell's part of completing commands, SRs and keys",
		Long: `completion writes a script by which a shell completes srctl's commands, flags,
SRs and keys. A package brings it along; else put it where the shell looks, or
have it read when a shell starts. bash needs the package bash-completion for it.`,
		Example: `  srctl completion bash > /etc/bash_completion.d/srctl
  srctl completion zsh > "${fpath[1]}/_srctl"
  srctl completion fish > ~/.config/fish/completions/srctl.fish
  source <(srctl completion bash)`,
		Args:              arguments(1, 1),
		ValidArgsFunction: cobra.FixedCompletions([]string{"bash", "zsh", "fish"}, cobra.ShellCompDirectiveNoFileComp),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		switch out := bare(s.out); args[0] {
		case "bash":
			return c.Root().GenBashCompletionV2(out, true)
		case "zsh":
			return c.Root().GenZshCompletion(out)
		case "fish":
			return c.Root().GenFishCompletion(out, true)
		}
		return misused("%q is none of bash, zsh and fish", args[0])
	}
	return c
}

// man writes the manual pages, the same ones for the same sources.
func (s *session) man() *cobra.Command {
	c := &cobra.Command{
		Use:   "man DIRECTORY",
		Short: "write the manual pages",
		Long: `man writes a manual page for srctl and one for each of its commands into a
directory, which must exist. They tell what --help tells. Their date is that of
the environment's SOURCE_DATE_EPOCH, else that of the commit that srctl was
built of, so that the same sources make the same pages.`,
		Example: `  srctl man /usr/local/share/man/man8
  man srctl-delta-apply`,
		Args: arguments(1, 1),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if st, err := os.Stat(args[0]); err != nil {
			return err
		} else if !st.IsDir() {
			return fmt.Errorf("%s is no directory", args[0])
		}
		date, err := dateOfPages()
		if err != nil {
			return err
		}
		return doc.GenManTree(c.Root(), &doc.GenManHeader{Section: "8", Date: &date, Source: "reflinksr " + version.Version, Manual: "Storage repositories"}, args[0])
	}
	return c
}

func dateOfPages() (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return version.Date(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s is no number of seconds", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
