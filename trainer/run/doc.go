// Package run trains: it is the loop around everything else, from a file of
// questions to a folder with the trained model.
//
// One step is: draw questions, sample K chains of each with the policy as it is
// (Rollouts), let package objective turn what came of them into one weight per
// token (Plan), backpropagate the weights and update by AdamW (Learner), log, and
// now and then evaluate and keep a checkpoint.
//
// # Invariants
//
//   - A run that was stopped at any moment and resumed gives the same metrics,
//     completions and weights, byte for byte, as one that never stopped. So
//     nothing is drawn from a generator that lives on: each draw has a seed of its
//     own, made of the run's seed, its purpose and its place (rng.go).
//   - A checkpoint is complete or not there at all, whenever the machine stops;
//     logs never hold more than the checkpoint that a run goes on from.
//   - What a configuration says is done or refused: options that a method does not
//     read are errors, as is another configuration than that of the run that goes on.
//   - Memory is planned and printed before a run starts; one that would not fit is
//     refused with the flags that would make it fit.
//
// # Reading order
//
// run.go is the loop. rollout.go and learn.go are its two halves; consult.go asks the
// policy from before training. open.go, output.go and questions.go make a run ready, with
// config.go (what can be chosen; options.go, config_yaml.go, flags.go and idle.go are
// its names, its file, its flags and what is refused), memory.go and free.go (the plan,
// and what there is for it) and origin.go (what a run started from). checkpoint.go,
// state.go, sums.go, disk.go, aside.go, atomic.go and room.go are what lies on the disk,
// metrics.go (metrics_read.go reads it), tensorboard.go, completions.go and progress.go
// what can be read meanwhile, course.go and curve.go what is made of that.
package run
