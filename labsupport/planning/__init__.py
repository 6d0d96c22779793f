"""Will it fit? The planner's answer: by arithmetic on paper, from the traced step, and held to what others measured."""
