// What only the App can do: FiftyOne 1.22 has no operator that moves the playhead of a video. Not built: the
// App's own libraries are globals.
(() => {
  const { Operator, OperatorConfig, registerOperator } = window.__foo__;

  class GoToFrame extends Operator {
    get config() {
      return new OperatorConfig({ name: "go_to_frame", label: "Go to frame", unlisted: true });
    }

    useHooks() {
      return { looker: window.recoil.useRecoilValue(window.__fos__.modalLooker) };
    }

    // frame_number: from 1. While annotating there is another player, out of reach: nothing happens.
    async execute({ hooks, params }) {
      hooks.looker?.seekToFrame?.(params.frame_number);
    }
  }

  registerOperator(GoToFrame, "@colortrack/fiftyone-colortrack");
})();
