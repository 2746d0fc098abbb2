// Package check finds what is not as it should be in an SR, attached or not; of what is provably ours a problem says how it
// is repaired. Each rule stands in a file of its own, and rules.go lists them. Looking writes nothing, and a problem is one
// only if it is still there while no call changes what is looked at.
package check
